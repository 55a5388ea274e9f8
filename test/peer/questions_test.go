package peer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// source is who asks.
type source struct {
	*lab.Host
	what string
	// far says that packets to virtual IPs do not come by the node that is asked.
	far bool
}

// question is what to ask, again and again.
type question struct {
	service string
	from    source
	// to is an address and a port, of the kind that what names.
	what, to string
	protocol corev1.Protocol
	// one says that all answers must come from one endpoint, which one does not matter: session affinity.
	one bool
}

func (q question) String() string {
	return fmt.Sprintf("%s: %s to %s %s/%s", q.service, q.from.what, q.what, q.to, q.protocol)
}

// questions are all that can be asked about a Service.
func (c *cluster) questions(service *corev1.Service) (out []question) {
	type place struct {
		what string
		ip   string
		port int32
		near bool // only from where packets to virtual IPs come by
	}
	for _, port := range service.Spec.Ports {
		var places []place
		for _, ip := range service.Spec.ClusterIPs {
			places = append(places, place{"cluster IP", ip, port.Port, true})
		}
		for _, ip := range service.Spec.ExternalIPs {
			places = append(places, place{"external IP", ip, port.Port, true})
		}
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			places = append(places, place{"load balancer", ingress.IP, port.Port, true})
		}
		if port.NodePort != 0 {
			for _, ip := range c.node.Addresses() {
				places = append(places, place{"NodePort", ip.String(), port.NodePort, false})
			}
		}
		for _, p := range places {
			for _, from := range c.sources {
				if p.near && from.far {
					continue
				}
				out = append(out, question{
					service: service.Name, from: from, what: p.what, to: lab.HostPort(netip.MustParseAddr(p.ip), p.port),
					protocol: port.Protocol, one: service.Spec.SessionAffinity == corev1.ServiceAffinityClientIP,
				})
			}
		}
	}
	for _, ip := range service.Spec.ClusterIPs {
		out = append(out, question{
			service: service.Name, from: pick(c, c.sources[:3]...), what: "cluster IP", to: lab.HostPort(netip.MustParseAddr(ip), 9999),
			protocol: pick(c, corev1.ProtocolTCP, corev1.ProtocolUDP),
		})
	}
	return out
}

// How a question may fail.
const refused, silence = "refused", "silence"

const (
	// tries is how often a question is asked. Of five endpoints, one stays unseen in one of ten thousand cases, so
	// what is answered differently is asked manyTries times again.
	tries, manyTries = 40, 400
	// patience is how long a question may go unanswered. Answers take a millisecond, unless the machine is busy.
	patience = 400 * time.Millisecond
	// askers is how many questions are under way together.
	askers = 24
)

// ask puts all questions and returns the answers, by question.
func (c *cluster) ask(t *testing.T, all []question, tries int) map[question]string {
	t.Helper()
	var (
		mu      sync.Mutex
		workers sync.WaitGroup
		next    = make(chan []question)
		answers = make(map[question]string, len(all))
	)
	for range askers {
		workers.Go(func() {
			for some := range next {
				for _, q := range some {
					answer := c.answer(t.Context(), q, tries)
					mu.Lock()
					answers[q] = answer
					mu.Unlock()
				}
			}
		})
	}
	// Where a Service has session affinity, two questions of one client that are under way together may both be
	// the first.
	type client struct{ service, what string }
	affine := map[client][]question{}
	for _, q := range all {
		if q.one {
			at := client{q.service, q.from.what}
			affine[at] = append(affine[at], q)
		} else {
			next <- []question{q}
		}
	}
	for _, some := range affine {
		next <- some
	}
	close(next)
	workers.Wait()
	return answers
}

// answer is who answers, and as whom it sees the asker; or how the question fails.
func (c *cluster) answer(ctx context.Context, q question, tries int) string {
	seen := sets.New[string]()
	for range tries {
		answer, failed := c.once(ctx, q, patience)
		for again := 0; answer == silence && again < 2; again++ {
			answer, failed = c.once(ctx, q, 3*patience) // it may have been the machine
		}
		if seen.Insert(answer); failed {
			break
		}
	}
	if q.one && q.from.Host == c.pods[0].Host {
		return fmt.Sprintf("one: %t", len(seen) == 1) // the one may be itself, which it reaches as the node
	}
	if !q.one {
		return strings.Join(slices.Sorted(maps.Keys(seen)), ", ")
	}
	clients := sets.New[string]()
	for answer := range seen {
		_, client, _ := strings.Cut(answer, " ")
		clients.Insert(cmp.Or(client, answer))
	}
	return fmt.Sprintf("one: %t, %s", len(seen) == 1, strings.Join(slices.Sorted(maps.Keys(clients)), ", "))
}

// once asks once.
func (c *cluster) once(ctx context.Context, q question, patience time.Duration) (answer string, failed bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var reply lab.Reply
	var err error
	if q.protocol == corev1.ProtocolTCP {
		reply, err = askTCP(ctx, q)
	} else {
		var text string
		if text, err = q.from.AskUDP(ctx, "udp", q.to); err == nil {
			var client string
			reply.Pod, client, _ = strings.Cut(text, " ")
			reply.Client, err = netip.ParseAddrPort(client)
		}
	}
	var timeout net.Error
	switch {
	case err == nil:
		return reply.Pod + " sees " + c.nameOf(q.from, reply.Client.Addr()), false
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EPERM): // EPERM is how a node's own datagrams are
		return refused, true
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return silence, true
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "unreachable", true
	}
	return err.Error(), true
}

// askTCP makes a connection and asks in the fewest bytes that an HTTP server takes.
func askTCP(ctx context.Context, q question) (lab.Reply, error) {
	var reply lab.Reply
	conn, err := q.from.Dial(ctx, "tcp", q.to)
	if err != nil {
		return reply, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	// A reset leaves no connection behind in which the next client, masqueraded to the same port, would get lost.
	if err := errors.Join(conn.SetDeadline(deadline), conn.(*net.TCPConn).SetLinger(0)); err != nil {
		return reply, err
	}
	if _, err := io.WriteString(conn, "GET /client HTTP/1.0\r\n\r\n"); err != nil {
		return reply, err
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		return reply, err
	}
	_, body, _ := strings.Cut(string(text), "\r\n\r\n")
	return reply, json.Unmarshal([]byte(body), &reply)
}

// nameOf says who a client is in the eyes of a pod.
func (c *cluster) nameOf(from source, client netip.Addr) string {
	switch {
	case slices.Contains(from.Addresses(), client):
		return "the client"
	case slices.Contains(c.node.Addresses(), client):
		return "the node"
	}
	return client.String()
}
