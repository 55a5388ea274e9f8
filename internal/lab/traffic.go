package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// askTimeout bounds one question where the caller's context does not.
const askTimeout = 5 * time.Second

// Ask makes one new connection (network tcp or udp, address an IP address and a port) and returns
// the name of the pod that answered.
func (h *Host) Ask(ctx context.Context, network, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if strings.HasPrefix(network, "udp") {
		answer, err := h.AskUDP(ctx, network, address)
		name, _, _ := strings.Cut(answer, " ")
		return name, err
	}
	body, err := h.get(ctx, "http://"+address+"/")
	return strings.TrimSuffix(string(body), "\n"), err
}

// AskClient makes one new TCP connection and returns what the pod that answered saw.
func (h *Host) AskClient(ctx context.Context, address string) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var reply Reply
	body, err := h.get(ctx, "http://"+address+"/client")
	if err != nil {
		return reply, err
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return reply, fmt.Errorf("reading the answer of %s: %w", address, err)
	}
	return reply, nil
}

// HTTPClient is a client that dials from this host. URLs need an IP address as their host. Without
// keepAlive every request makes a new connection.
func (h *Host) HTTPClient(keepAlive bool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:       h.Dial,
		DisableKeepAlives: !keepAlive,
	}}
}

func (h *Host) get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := h.HTTPClient(false).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

// AskUDP sends one datagram (network udp, udp4 or udp6) and returns the whole answer, "<name> <client
// address>".
func (h *Host) AskUDP(ctx context.Context, network, address string) (string, error) {
	conn, err := h.Dial(ctx, network, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	// A cancelled context ends the read at once.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, "who?"); err != nil {
		return "", err
	}
	buffer := make([]byte, 1<<10)
	n, err := conn.Read(buffer)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() && ctx.Err() != nil {
		return "", fmt.Errorf("asking %s over UDP: no answer: %w", address, ctx.Err())
	}
	return string(buffer[:n]), err
}

// Tally says how often which pod answered.
type Tally struct {
	// Answers are the connections answered, by pod.
	Answers map[string]int
	// Failed are the connections without an answer; Errors are up to ten of their errors.
	Failed int
	Errors []error
}

// Total is the number of connections made.
func (t Tally) Total() int {
	total := t.Failed
	for _, n := range t.Answers {
		total += n
	}
	return total
}

// tallyParallelism is how many connections a tally has under way at a time.
const tallyParallelism = 8

// Tally asks n times, each time on a new connection.
func (h *Host) Tally(ctx context.Context, network, address string, n int) Tally {
	var asked atomic.Int64
	return h.tally(ctx, network, address, func() bool { return asked.Add(1) <= int64(n) })
}

// TallyUntil is constant load: it asks, each time on a new connection, until ctx ends, and lets the
// questions under way be answered.
func (h *Host) TallyUntil(ctx context.Context, network, address string) Tally {
	return h.tally(context.WithoutCancel(ctx), network, address, func() bool { return ctx.Err() == nil })
}

// tally asks while more says so.
func (h *Host) tally(ctx context.Context, network, address string, more func() bool) Tally {
	tally := Tally{Answers: map[string]int{}}
	var (
		mu      sync.Mutex
		workers sync.WaitGroup
	)
	for range tallyParallelism {
		workers.Go(func() {
			for more() {
				name, err := h.Ask(ctx, network, address)
				mu.Lock()
				tally.add(name, err)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return tally
}

func (t *Tally) add(name string, err error) {
	if err == nil {
		t.Answers[name]++
		return
	}
	t.Failed++
	if len(t.Errors) < 10 {
		t.Errors = append(t.Errors, err)
	}
}
