package probe

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

var owner = types.NamespacedName{Namespace: "ns", Name: "owner"}

// outside is what is outside the cluster, in the time of a test.
type outside struct {
	mu    sync.Mutex
	up    bool
	names map[string][]netip.Addr
	fault error
	// dialed and asked count the checks and lookups.
	dialed, asked int
}

func (o *outside) set(change func(*outside)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o)
}

func (o *outside) counts() (dialed, asked int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dialed, o.asked
}

func (o *outside) dial(context.Context, string, string) (net.Conn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dialed++
	if !o.up {
		return nil, errors.New("refused")
	}
	near, far := net.Pipe()
	_ = far.Close()
	return near, nil
}

func (o *outside) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	if o.fault != nil {
		return nil, o.fault
	}
	found, ok := o.names[host]
	if !ok {
		return nil, &net.DNSError{IsNotFound: true}
	}
	return found, nil
}

// start starts a Prober that ends with the test; calls counts what it reported.
func start(t *testing.T, o *outside) (p *Prober, calls *atomic.Int32) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	p, calls = New(Options{Resolver: o, Dial: o.dial}), &atomic.Int32{}
	p.Start(ctx, func(types.NamespacedName) { calls.Add(1) })
	return p, calls
}

func tcp(success, failure int) Target {
	return Target{
		Address: netip.MustParseAddrPort("192.0.2.1:80"), Period: 10 * time.Second, Timeout: time.Second,
		SuccessThreshold: success, FailureThreshold: failure,
	}
}

func ready(p *Prober, what Target, begin bool) bool {
	return p.Targets(owner, map[Target]bool{what: begin})[what]
}

// elapse lets the bubble's own time pass.
func elapse(d time.Duration) { <-time.After(d) }

// A period with its jitter and a moment.
const period = 11*time.Second + time.Millisecond

func TestThresholdsAreCountedInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outside{up: true}
		p, calls := start(t, o)
		what := tcp(2, 3)
		if ready(p, what, false) {
			t.Error("ready before the first check")
		}
		synctest.Wait()
		if ready(p, what, false) {
			t.Error("ready after one check of two")
		}
		elapse(period)
		if !ready(p, what, false) || calls.Load() != 1 {
			t.Errorf("not ready after two checks, or told %d times", calls.Load())
		}
		for range 2 { // two failures and a success are no three failures
			o.set(func(o *outside) { o.up = false })
			for before, _ := o.counts(); ; elapse(time.Second) {
				if now, _ := o.counts(); now == before+2 {
					break
				}
			}
			o.set(func(o *outside) { o.up = true })
			elapse(period)
		}
		if !ready(p, what, false) || calls.Load() != 1 {
			t.Errorf("failures in between count, or told %d times", calls.Load())
		}
		o.set(func(o *outside) { o.up = false })
		elapse(3 * period)
		if ready(p, what, false) || calls.Load() != 2 {
			t.Errorf("still ready after three failures, or told %d times", calls.Load())
		}
	})
}

func TestWhatWasReadyStaysSoUntilItFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, calls := start(t, &outside{})
		what := tcp(1, 2)
		if !ready(p, what, true) {
			t.Error("not ready at once")
		}
		elapse(10 * time.Second) // the first check is within a period
		if !ready(p, what, true) || calls.Load() != 0 {
			t.Error("not ready after one failure of two")
		}
		elapse(period)
		if ready(p, what, true) || calls.Load() != 1 {
			t.Error("ready after two failures")
		}
	})
}

func TestNothingIsWatchedThatNobodyAsksFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outside{up: true}
		p, _ := start(t, o)
		p.Names(owner, []string{"a.example", "b.example"})
		ready(p, tcp(1, 1), false)
		synctest.Wait()
		p.Names(owner, []string{"b.example"})
		p.Targets(owner, nil)
		if dialed, asked := o.counts(); dialed != 1 || asked != 2 {
			t.Fatalf("%d checks and %d lookups at first", dialed, asked)
		}
		elapse(6 * time.Second) // a failed lookup is repeated after 5 s
		if dialed, asked := o.counts(); dialed != 1 || asked != 3 {
			t.Errorf("%d checks and %d lookups after all but one were given up", dialed, asked)
		}
		p.Forget(owner)
		if len(p.owners) != 0 {
			t.Errorf("%d owners are remembered", len(p.owners))
		}
		elapse(time.Hour)
		if dialed, asked := o.counts(); dialed != 1 || asked != 3 {
			t.Errorf("%d checks and %d lookups after everything was given up", dialed, asked)
		}
	})
}

func TestANameKeepsItsAddressesWhileLookupsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
		o := &outside{names: map[string][]netip.Addr{}}
		p, calls := start(t, o)
		look := func() Lookup {
			elapse(34 * time.Second)
			return p.Names(owner, []string{"db.example"})["db.example"]
		}
		if first := p.Names(owner, []string{"db.example"})["db.example"]; first.Found || first.Failure != "" {
			t.Errorf("before the first lookup: %+v", first)
		}
		if got := look(); got.Found || got.Failure != "there is no such name, or no address of it is allowed" || calls.Load() != 1 {
			t.Errorf("a name that is not there: %+v, told %d times", got, calls.Load())
		}
		// Mapped, twice and in no order.
		o.set(func(o *outside) {
			o.names["db.example."] = []netip.Addr{b, netip.AddrFrom16(a.As16()), a}
		})
		if got := look(); !got.Found || got.Failure != "" || !slices.Equal(got.Addresses, []netip.Addr{a, b}) || calls.Load() != 2 {
			t.Errorf("a name that came: %+v, told %d times", got, calls.Load())
		}
		for fault, want := range map[error]string{
			&net.DNSError{IsTimeout: true}:        "the DNS servers do not answer",
			&net.DNSError{Err: "read 1.2.3.4:55"}: "the DNS servers fail",
		} {
			o.set(func(o *outside) { o.fault = fault })
			before := calls.Load()
			if got := look(); !got.Found || got.Failure != want || !slices.Equal(got.Addresses, []netip.Addr{a, b}) || calls.Load() != before+1 {
				t.Errorf("while lookups fail: %+v, told %d times", got, calls.Load()-before)
			}
		}
	})
}

// For any results, a target flips exactly when as many as its threshold contradict its state in a row.
func TestFlipsAreTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		what := tcp(rapid.IntRange(1, 4).Draw(t, "success"), rapid.IntRange(1, 4).Draw(t, "failure"))
		begin := rapid.Bool().Draw(t, "begin")
		results := rapid.SliceOf(rapid.Bool()).Draw(t, "results")
		p, told := New(Options{}), 0
		p.changed = func(types.NamespacedName) { told++ }
		state := &target{ready: begin}
		want, row, flips := begin, 0, 0
		for _, passed := range results {
			var err error
			if !passed {
				err = errors.New("failed")
			}
			p.record(owner, what, state, err)
			if row++; passed == want {
				row = 0
			}
			if threshold := map[bool]int{true: what.FailureThreshold, false: what.SuccessThreshold}[want]; row == threshold {
				want, row = !want, 0
				flips++
			}
			if state.ready != want || told != flips {
				t.Fatalf("ready %t, told %d times; want %t, %d", state.ready, told, want, flips)
			}
		}
	})
}

func TestChecksOfARealServer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
			if r.URL.Query().Get("deep") != "1" || r.Host != "db.example" {
				w.WriteHeader(http.StatusNotFound)
			}
		case "/redirect":
			http.Redirect(w, r, "http://192.0.2.1/never", http.StatusFound)
		case "/slow":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	address := netip.MustParseAddrPort(strings.TrimPrefix(server.URL, "http://"))
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	nobody := netip.MustParseAddrPort(closed.Addr().String())
	p := New(Options{})
	for name, test := range map[string]struct {
		target Target
		want   string
	}{
		"tcp":          {Target{Address: address}, ""},
		"tcp, nobody":  {Target{Address: nobody}, "connection refused"},
		"http":         {Target{Address: address, HTTP: true, Path: "/health?deep=1", Host: "db.example"}, ""},
		"other host":   {Target{Address: address, HTTP: true, Path: "/health?deep=1"}, "404"},
		"redirect":     {Target{Address: address, HTTP: true, Path: "/redirect"}, ""},
		"unhealthy":    {Target{Address: address, HTTP: true, Path: "/"}, "503"},
		"too slow":     {Target{Address: address, HTTP: true, Path: "/slow", Timeout: 50 * time.Millisecond}, "deadline"},
		"http, nobody": {Target{Address: nobody, HTTP: true, Path: "/"}, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.target.Timeout == 0 {
				test.target.Timeout = 10 * time.Second
			}
			err := p.check(t.Context(), test.target)
			if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestOwnersDoNotDisturbEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outside{up: true}
		p, _ := start(t, o)
		other := types.NamespacedName{Namespace: "ns", Name: "other"}
		what := tcp(1, 1)
		ready(p, what, false)
		p.Targets(other, map[Target]bool{what: true})
		p.Forget(other)
		synctest.Wait()
		if !ready(p, what, false) {
			t.Error("forgetting another owner ended the check")
		}
		if got := slices.Collect(maps.Keys(p.owners)); !slices.Equal(got, []types.NamespacedName{owner}) {
			t.Errorf("owners: %v", got)
		}
	})
}
