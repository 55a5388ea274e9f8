package conntrack

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

func TestStaleFlows(t *testing.T) {
	vip := proxy.Key{Addr: netip.MustParseAddr("10.96.0.10"), Port: 53, Protocol: proxy.UDP}
	endpoint := func(addr string) proxy.Endpoint {
		return proxy.Endpoint{Addr: netip.MustParseAddr(addr), Port: 5353}
	}
	serving, empty := []proxy.Endpoint{endpoint("10.244.0.1")}, []proxy.Endpoint(nil)
	flowOf := func(protocol proxy.Protocol, to string, port uint16, answers string, answerPort uint16) *flow {
		return &flow{
			key:     proxy.Key{Addr: netip.MustParseAddr(to), Port: port, Protocol: protocol},
			answers: proxy.Endpoint{Addr: netip.MustParseAddr(answers), Port: answerPort},
		}
	}
	for _, test := range []struct {
		name    string
		serving []proxy.Endpoint
		flow    *flow
		stale   bool
	}{
		{"to a serving endpoint", serving, flowOf(17, "10.96.0.10", 53, "10.244.0.1", 5353), false},
		{"to an endpoint that left", serving, flowOf(17, "10.96.0.10", 53, "10.244.0.2", 5353), true},
		{"to another port of the same pod", serving, flowOf(17, "10.96.0.10", 53, "10.244.0.1", 53), true},
		{"from before there was an endpoint", serving, flowOf(17, "10.96.0.10", 53, "10.96.0.10", 53), true},
		{"to an endpoint of a frontend that is gone", empty, flowOf(17, "10.96.0.10", 53, "10.244.0.1", 5353), true},
		{"to the node itself, on a port that was a NodePort", empty, flowOf(17, "10.96.0.10", 53, "10.96.0.10", 53), false},
		{"to another port", serving, flowOf(17, "10.96.0.10", 54, "10.244.0.2", 5353), false},
		{"to another address", serving, flowOf(17, "10.96.0.11", 53, "10.244.0.2", 5353), false},
		{"TCP", serving, flowOf(6, "10.96.0.10", 53, "10.244.0.2", 5353), false},
	} {
		filter := newStale([]ruleset.Serving{{Key: vip, Endpoints: test.serving}}, true)
		if got := filter.match(test.flow); got != test.stale {
			t.Errorf("%s: stale %v, want %v", test.name, got, test.stale)
		}
	}
}

func TestLimitsAreOnlyRaised(t *testing.T) {
	folder := t.TempDir()
	for name, value := range map[string]string{"low": "10\n", "high": "99\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := raise(folder, map[string]int{"low": 50, "high": 50, "missing": 50}); err == nil {
		t.Error("a setting the kernel lacks gave no error")
	}
	for name, want := range map[string]string{"low": "50", "high": "99\n"} {
		if got, err := os.ReadFile(filepath.Join(folder, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, want %q (%v)", name, got, want, err)
		}
	}
	if got := settings(1)["nf_conntrack_max"]; got != 131072 {
		t.Errorf("one core gives %d connections", got)
	}
}
