package nft_test

import (
	"net/netip"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// TestTablesAreReadWholeRightAfterALoad: the kernel enlarges its hash tables for some time after it, and loses its
// place in a listing then.
func TestTablesAreReadWholeRightAfterALoad(t *testing.T) {
	tables := openTables(t)
	update := ruleset.Update{Services: map[types.NamespacedName]*proxy.Service{}}
	for i := range 60 {
		vip := netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
		update.Services[types.NamespacedName{Namespace: "default", Name: vip.String()}] = &proxy.Service{Frontends: []proxy.Frontend{
			{Key: proxy.Key{Addr: vip, Port: 80, Protocol: proxy.TCP}, Endpoints: endpoints("ipv4", 2000)},
		}}
	}
	state := ruleset.NewState()
	change := state.Apply(update).Change
	want := state.Elements()
	for range 10 {
		if err := tables.Replace(&change); err != nil {
			t.Fatal(err)
		}
		got, err := tables.Elements()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			distinct := map[ruleset.Element]struct{}{}
			for _, e := range got {
				distinct[e] = struct{}{}
			}
			t.Errorf("%d elements are read, %d of them distinct; want %d", len(got), len(distinct), len(want))
		}
	}
}
