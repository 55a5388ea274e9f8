package nft_test

import (
	"fmt"
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// TestCountersAreReadWhenTheirEndpointsLeave deletes counters one by one, so that the kernel tells
// what they said, and more at once than it tells.
func TestCountersAreReadWhenTheirEndpointsLeave(t *testing.T) {
	tables, state := openLayout(t, nft.Layout{CountConnections: true}), ruleset.NewCountingState()
	vip := netip.MustParseAddr("10.96.0.10")
	set := func(write func(*ruleset.Change) error, n int) {
		t.Helper()
		change := state.Apply(ruleset.Update{Services: map[types.NamespacedName]*proxy.Service{
			{Namespace: "default", Name: "web"}: {Frontends: []proxy.Frontend{
				{Key: proxy.Key{Addr: vip, Port: 80, Protocol: proxy.TCP}, Endpoints: endpoints("ipv4", n)},
			}},
		}}).Change
		if err := write(&change); err != nil {
			t.Fatal(err)
		}
	}
	const most = 5001
	set(tables.Replace, most)
	all := endpoints("ipv4", most)
	for i, ep := range []proxy.Endpoint{all[0], all[3999], all[most-1]} {
		element := fmt.Sprintf("{ %s . tcp . 80 . %s . %d", vip, ep.Addr, ep.Port)
		runNFT(t, fmt.Sprintf("delete element ip servicegroup connections %s }\nadd element ip servicegroup connections %s counter packets %d bytes 0 }\n",
			element, element, 7+i), "-f", "-")
	}
	left := func(want int) (sum uint64) {
		t.Helper()
		for _, c := range tables.Left() {
			sum += c.Connections
			if c.Key.Addr != vip || c.Key.Port != 80 || c.Endpoint.Port != 8080 {
				t.Fatalf("strange counter %+v", c)
			}
		}
		if got := len(tables.Left()); got != want {
			t.Errorf("%d counters left, want %d", got, want)
		}
		return sum
	}
	set(tables.Commit, most-1)
	if sum := left(1); sum != 9 {
		t.Errorf("the last endpoint had %d connections, want 9", sum)
	}
	set(tables.Commit, 3000) // as many as the kernel is asked to tell of
	if sum := left(2000); sum != 8 {
		t.Errorf("2,000 endpoints had %d connections, want 8", sum)
	}
	set(tables.Commit, 0) // more than that
	if sum := left(3000); sum != 7 {
		t.Errorf("the rest had %d connections, want 7", sum)
	}
	set(tables.Commit, 0)
	left(0)
}
