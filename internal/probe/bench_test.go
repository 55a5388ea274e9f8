package probe

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// BenchmarkNeighbor measures how late the checks of a namespace are, in real time and with real sockets:
// alone, and beside 10,000 targets of another one whose listener does not answer. It judges nothing.
func BenchmarkNeighbor(b *testing.B) {
	for b.Loop() {
		alone, beside := neighborLateness(b, 0), neighborLateness(b, 10_000)
		b.ReportMetric(float64(alone.Microseconds())/1000, "alone-p99-ms")
		b.ReportMetric(float64(beside.Microseconds())/1000, "beside-p99-ms")
		b.ReportMetric(float64(beside)/float64(alone), "ratio")
	}
}

// neighborLateness is the 99th percentile of how much later than its period 100 checks of a server
// began, beside so many dead targets.
func neighborLateness(b *testing.B, deadOnes int) time.Duration {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	dead, at := silent(b).String(), strings.TrimPrefix(server.URL, "http://")
	const every = 100 * time.Millisecond
	begun := make(chan time.Time, 1000)
	p := New(Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != at {
			address = dead
		} else {
			begun <- time.Now()
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}})
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	p.Start(ctx, func(types.NamespacedName) {})
	p.Targets(types.NamespacedName{Namespace: "hostile", Name: "many"}, deadTargets(deadOnes, time.Second, time.Second))
	p.Targets(owner, map[Target]bool{{
		Address: netip.MustParseAddrPort(at), Period: every, Timeout: every, SuccessThreshold: 1, FailureThreshold: 1,
	}: false})
	var late []time.Duration
	for last := <-begun; len(late) < 100; {
		now := <-begun
		late = append(late, now.Sub(last)-every)
		last = now
	}
	slices.Sort(late)
	return late[98]
}
