package probe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Target is an address and how to check it.
type Target struct {
	// Address is what to connect to.
	Address netip.AddrPort
	// HTTP asks for Path and expects a status from 200 to 399. Otherwise a connection is all that is
	// expected.
	HTTP bool
	// Path is the path of the request, with a query if need be.
	Path string
	// Host is the Host header; empty for the address.
	Host string
	// Period is the time between two checks, Timeout how long one may take.
	Period, Timeout time.Duration
	// SuccessThreshold and FailureThreshold are how many results in a row change its state.
	SuccessThreshold, FailureThreshold int
}

// target is a target that is watched.
type target struct {
	job
	ready bool
	// against counts the latest results in a row that contradict ready.
	against int
}

// Targets makes these the targets that are watched for the owner, in place of those before, and returns
// which of them are ready. The values are the states to begin with: a target that was ready stays so
// until enough checks failed, and one that was not is checked at once.
func (p *Prober) Targets(owner types.NamespacedName, targets map[Target]bool) map[Target]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.of(owner)
	for what, t := range w.targets {
		if _, ok := targets[what]; !ok {
			p.checks.end(&t.job)
			delete(w.targets, what)
		}
	}
	ready := make(map[Target]bool, len(targets))
	for what, begin := range targets {
		t := w.targets[what]
		if t == nil {
			t = &target{ready: begin}
			w.targets[what] = t
			p.watch(owner, what, t)
		}
		ready[what] = t.ready
	}
	p.dropEmpty(owner)
	return ready
}

// watch has a target checked a period after the last check began, and up to a tenth more.
func (p *Prober) watch(owner types.NamespacedName, what Target, t *target) {
	t.job = job{owner: owner, tolerance: what.Period / 10, do: func(ctx context.Context) time.Time {
		due := time.Now().Add(spread(what.Period))
		err := p.check(ctx, what)
		if ctx.Err() == nil {
			countCheck(err)
			p.record(owner, what, t, err)
		}
		return due
	}}
	first := time.Now()
	if t.ready { // as after a restart of the manager, for all of them
		first = first.Add(rand.N(what.Period))
	}
	p.checks.add(&t.job, first)
}

// record counts a result.
func (p *Prober) record(owner types.NamespacedName, what Target, t *target, err error) {
	p.mu.Lock()
	threshold := what.SuccessThreshold
	if t.ready {
		threshold = what.FailureThreshold
	}
	if t.ready == (err == nil) {
		t.against = 0
	} else {
		t.against++
	}
	flips := t.against >= max(threshold, 1)
	if flips {
		t.ready, t.against = !t.ready, 0
	}
	p.mu.Unlock()
	if !flips {
		return
	}
	if err != nil {
		p.log.Info("An external address fails its health check", "for", owner, "address", what.Address.String(), "cause", err.Error())
	} else {
		p.log.Info("An external address passes its health check", "for", owner, "address", what.Address.String())
	}
	p.changed(owner)
}

// check checks a target once.
func (p *Prober) check(ctx context.Context, what Target) error {
	ctx, cancel := context.WithTimeout(ctx, what.Timeout)
	defer cancel()
	if what.HTTP {
		return p.get(ctx, what)
	}
	conn, err := p.options.Dial(ctx, "tcp", what.Address.String())
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	_ = conn.Close() // nothing was written that could be lost
	return nil
}

func (p *Prober) get(ctx context.Context, what Target) error {
	at, err := url.Parse("http://" + what.Address.String() + what.Path)
	if err != nil {
		return fmt.Errorf("reading the path: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	request.Host = what.Host
	request.Header.Set("User-Agent", "servicegroup-probe")
	// Not the default transport: it would use a proxy of the environment and keep connections.
	transport := &http.Transport{DialContext: p.options.Dial, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request) // unlike a Client it follows no redirects
	if err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	_ = response.Body.Close() // unread: what is in it does not matter
	if response.StatusCode < 200 || response.StatusCode > 399 {
		return fmt.Errorf("answered with status %s", response.Status)
	}
	return nil
}
