package endtoend

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// pause is how long a client waits between two requests: as many connections as a client makes in a test
// must not use up its ports.
const pause = 10 * time.Millisecond

// answerBound is how long a client waits for an answer. A lost datagram is not sent again.
const answerBound = 5 * time.Second

// traffic is requests without end, each of which has to be answered.
type traffic struct {
	stop    context.CancelFunc
	clients sync.WaitGroup
	mu      sync.Mutex
	counts  map[string]*count
	// moved is how often session affinity led a client to another pod than before.
	moved map[string]int
}

// count is what became of one client's requests.
type count struct {
	answered, failed int
	slowest          time.Duration
	first            error
}

func newTraffic(t *testing.T) (*traffic, context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	traffic := &traffic{stop: cancel, counts: map[string]*count{}, moved: map[string]int{}}
	t.Cleanup(traffic.end)
	return traffic, ctx
}

func (r *traffic) end() {
	r.stop()
	r.clients.Wait()
}

// keepAsking makes a request after the other, until ctx ends.
func (r *traffic) keepAsking(ctx context.Context, name string, request func() error) {
	counted := &count{}
	r.counts[name] = counted
	r.clients.Go(func() {
		ticker := time.NewTicker(pause)
		defer ticker.Stop()
		for ; ctx.Err() == nil; <-ticker.C {
			start := time.Now()
			err := request()
			r.mu.Lock()
			counted.slowest = max(counted.slowest, time.Since(start))
			if err == nil {
				counted.answered++
			} else if counted.failed++; counted.first == nil {
				counted.first = fmt.Errorf("after %d answers: %w", counted.answered, err)
			}
			r.mu.Unlock()
		}
	})
}

// connect makes a new connection for each request, TCP or UDP.
func (r *traffic) connect(ctx context.Context, from *lab.Host, network, address string) {
	r.keepAsking(ctx, fmt.Sprintf("%s to %s, new %s connections", from.Name, address, network), func() error {
		bounded, done := context.WithTimeout(context.WithoutCancel(ctx), answerBound)
		defer done()
		_, err := from.Ask(bounded, network, address)
		return err
	})
}

// stick makes a new connection for each request, as one whom session affinity knows.
func (r *traffic) stick(ctx context.Context, from *lab.Host, address string) {
	name := fmt.Sprintf("%s to %s, session affinity", from.Name, address)
	r.moved[name] = 0
	pod := ""
	r.keepAsking(ctx, name, func() error {
		bounded, done := context.WithTimeout(context.WithoutCancel(ctx), answerBound)
		defer done()
		who, err := from.Ask(bounded, "tcp", address)
		if err != nil {
			return err
		}
		if pod != "" && who != pod {
			r.mu.Lock()
			r.moved[name]++
			r.mu.Unlock()
		}
		pod = who
		return nil
	})
}

// hold makes every request on one connection: HTTP on TCP, datagrams from one socket on UDP.
func (r *traffic) hold(t *testing.T, ctx context.Context, from *lab.Host, network, address string) {
	t.Helper()
	conn, err := from.Dial(ctx, network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	answer := httpAnswer(bufio.NewReader(conn))
	if network == "udp" {
		answer = datagram(conn)
	}
	// It is to stay with the pod that it has.
	pod := ""
	r.keepAsking(ctx, fmt.Sprintf("%s to %s, one %s connection", from.Name, address, network), func() error {
		if err := conn.SetDeadline(time.Now().Add(answerBound)); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n"); err != nil {
			return err
		}
		who, err := answer()
		if err != nil {
			return err
		}
		if pod == "" {
			pod = who
		}
		if who != pod {
			return fmt.Errorf("%q answers, and before it was %q", who, pod)
		}
		return nil
	})
}

func httpAnswer(from *bufio.Reader) func() (string, error) {
	return func() (string, error) {
		response, err := http.ReadResponse(from, nil)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
}

func datagram(conn net.Conn) func() (string, error) {
	return func() (string, error) {
		buffer := make([]byte, 1<<10)
		n, err := conn.Read(buffer)
		return string(buffer[:n]), err
	}
}

// expectAllAnswered ends the requests, and checks that none failed.
func (r *traffic) expectAllAnswered(t *testing.T) {
	t.Helper()
	r.end()
	for name, counted := range r.counts {
		t.Logf("%s: %d answered, %d failed, the slowest took %s", name, counted.answered, counted.failed, counted.slowest.Round(time.Millisecond))
		if counted.failed > 0 {
			t.Errorf("%s: %d of %d failed, the first %v", name, counted.failed, counted.failed+counted.answered, counted.first)
		}
		if counted.answered < 100 {
			t.Errorf("%s: only %d requests", name, counted.answered)
		}
	}
}

// expectLoyal checks, once the requests have ended, that session affinity lost its clients' pods at most so
// often.
func (r *traffic) expectLoyal(t *testing.T, most int) {
	t.Helper()
	for name, moved := range r.moved {
		t.Logf("%s: %d changes of the pod", name, moved)
		if moved > most {
			t.Errorf("%s: the pod changed %d times, want at most %d", name, moved, most)
		}
	}
}
