package probe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// hang is an outside that never answers, but for the addresses and names that it knows.
type hang struct {
	mu     sync.Mutex
	starts map[string][]time.Time
	lives  string
}

func (h *hang) begin(ctx context.Context, what string) error {
	h.mu.Lock()
	if h.starts == nil {
		h.starts = map[string][]time.Time{}
	}
	h.starts[what] = append(h.starts[what], time.Now())
	h.mu.Unlock()
	if what == h.lives {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (h *hang) dial(ctx context.Context, _, address string) (net.Conn, error) {
	if err := h.begin(ctx, address); err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	_ = far.Close()
	return near, nil
}

func (h *hang) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, h.begin(ctx, host)
}

// longestGap is the longest time between two starts.
func (h *hang) longestGap(what string) (longest time.Duration, starts int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	times := h.starts[what]
	for i := 1; i < len(times); i++ {
		longest = max(longest, times[i].Sub(times[i-1]))
	}
	return longest, len(times)
}

// deadTargets are n targets in 10.0.0.0/8.
func deadTargets(n int, period, timeout time.Duration) map[Target]bool {
	out := map[Target]bool{}
	for i := range n {
		address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		out[Target{Address: netip.AddrPortFrom(address, 80), Period: period, Timeout: timeout, SuccessThreshold: 1, FailureThreshold: 1}] = false
	}
	return out
}

func valueOf(t *testing.T, counter prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := counter.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// 10,000 targets that do not answer, each as long as a check may take, and names that are not answered:
// the checks of another namespace are as they are alone, and nothing has a goroutine that only waits.
func TestDeadTargetsDoNotDelayANeighbor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hang{lives: "192.0.2.1:80"}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := New(Options{Dial: h.dial, Resolver: h})
		p.Start(ctx, func(types.NamespacedName) {})
		hostile := types.NamespacedName{Namespace: "hostile", Name: "many"}
		before := valueOf(t, p.checks.late)
		p.Targets(hostile, deadTargets(10_000, time.Minute, time.Minute))
		var names []string
		for i := range 2000 {
			names = append(names, fmt.Sprintf("%d.dead.example", i))
		}
		p.Names(hostile, names)
		elapse(10 * time.Second)
		p.Targets(owner, map[Target]bool{tcp(1, 1): false})
		elapse(2 * time.Minute)
		if n := runtime.NumGoroutine(); n > 1100+100 { // of both pools, and of tests
			t.Errorf("%d goroutines", n)
		}
		if gap, starts := h.longestGap("192.0.2.1:80"); starts < 11 || gap > period {
			t.Errorf("%d checks in two minutes, with up to %s between two; the period is 10 s", starts, gap)
		}
		if valueOf(t, p.checks.late) == before {
			t.Error("the checks of who has too many are late, and none is counted")
		}
		p.Forget(hostile)
		p.Forget(owner)
		synctest.Wait()
		if n := len(p.checks.turns.tenants) + len(p.lookups.turns.tenants); n > 0 {
			t.Errorf("%d namespaces are remembered", n)
		}
	})
}

// A ServiceGroup with many dead targets leaves turns to another one of its namespace.
func TestOwnersOfANamespaceTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hang{lives: "192.0.2.1:80"}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := New(Options{Dial: h.dial, CheckWorkers: 20})
		p.Start(ctx, func(types.NamespacedName) {})
		p.Targets(types.NamespacedName{Namespace: owner.Namespace, Name: "many"}, deadTargets(10_000, time.Second, time.Second))
		synctest.Wait()
		p.Targets(owner, map[Target]bool{tcp(1, 1): false})
		elapse(2 * time.Minute)
		if gap, starts := h.longestGap("192.0.2.1:80"); starts < 10 || gap > period+time.Second {
			t.Errorf("%d checks in two minutes, with up to %s between two; the period is 10 s", starts, gap)
		}
	})
}

// silent returns an address of the loopback where connections neither succeed nor fail: of a listener
// whose queue is full.
func silent(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(at.(*unix.SockaddrInet4).Port))
	conn, err := net.Dial("tcp", address.String()) // there is place for one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return address
}

// Real listeners that do not answer hold half of the places; those of a real server go on.
func TestSilentListenersDoNotDelayANeighbor(t *testing.T) {
	asked := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
	}))
	defer server.Close()
	var mu sync.Mutex
	dialed := 0
	dead := silent(t)
	p := New(Options{CheckWorkers: 8, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "10.") {
			address = dead.String()
			mu.Lock()
			dialed++
			mu.Unlock()
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}})
	p.Start(t.Context(), func(types.NamespacedName) {})
	p.Targets(types.NamespacedName{Namespace: "hostile", Name: "many"}, deadTargets(100, time.Hour, time.Hour))
	alive := Target{
		Address: netip.MustParseAddrPort(strings.TrimPrefix(server.URL, "http://")), HTTP: true, Path: "/",
		Period: 10 * time.Millisecond, Timeout: time.Minute, SuccessThreshold: 1, FailureThreshold: 1,
	}
	p.Targets(owner, map[Target]bool{alive: false})
	for i := range 20 {
		select {
		case <-asked:
		case <-time.After(20 * time.Second):
			t.Fatalf("after %d checks the server is no longer asked", i)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if dialed != 4 {
		t.Errorf("the listener that does not answer is asked by %d of 8 workers, want 4", dialed)
	}
}

// What is known of a name is the same whether it does not exist or leads only to what is not allowed:
// before it was ever found, and after.
func TestANameThatIsNotAllowedIsLikeNone(t *testing.T) {
	internal, public := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1")
	after := func(first, then []netip.Addr) (out Lookup) {
		synctest.Test(t, func(t *testing.T) {
			o := &outside{names: map[string][]netip.Addr{}}
			answer := func(addresses []netip.Addr) {
				o.set(func(o *outside) {
					if delete(o.names, "db.example."); addresses != nil {
						o.names["db.example."] = addresses
					}
				})
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p := New(Options{Resolver: o, Allowed: func(a netip.Addr) bool { return a == public }})
			p.Start(ctx, func(types.NamespacedName) {})
			answer(first)
			p.Names(owner, []string{"db.example"})
			synctest.Wait()
			answer(then)
			elapse(34 * time.Second)
			out = p.Names(owner, []string{"db.example"})["db.example"]
		})
		return out
	}
	for _, first := range [][]netip.Addr{nil, {internal}, {public}, {public, internal}} {
		none, forbidden := after(first, nil), after(first, []netip.Addr{internal})
		if !none.equal(forbidden) {
			t.Errorf("after %v: %+v if there is none, %+v if it is not allowed", first, none, forbidden)
		}
		if forbidden.Failure == "" {
			t.Errorf("after %v: no failure", first)
		}
	}
	if got := after(nil, []netip.Addr{internal, public}); !got.equal(Lookup{Found: true, Addresses: []netip.Addr{public}, NotAllowed: 1}) {
		t.Errorf("a name with both kinds: %+v", got)
	}
}
