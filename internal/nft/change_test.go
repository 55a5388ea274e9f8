package nft_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// TestTheBytesOfAChangeDoNotGrowWithServices: one endpoint of ten leaves and comes back.
func TestTheBytesOfAChangeDoNotGrowWithServices(t *testing.T) {
	serviceAt := func(i, endpointsOf int) (types.NamespacedName, *proxy.Service) {
		vip := netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
		return types.NamespacedName{Namespace: "default", Name: fmt.Sprint(i)}, &proxy.Service{
			VirtualIPs: []netip.Addr{vip},
			Frontends:  []proxy.Frontend{{Key: proxy.Key{Addr: vip, Port: 80, Protocol: proxy.TCP}, Endpoints: endpoints("ipv4", endpointsOf)}},
		}
	}
	var first [2]int
	for _, size := range []int{1, 100, 3000} {
		tables, state := openTables(t), ruleset.NewState()
		all := ruleset.Update{Services: map[types.NamespacedName]*proxy.Service{}}
		for i := range size {
			name, service := serviceAt(i, 10)
			all.Services[name] = service
		}
		change := state.Apply(all).Change
		if err := tables.Replace(&change); err != nil {
			t.Fatal(err)
		}
		var bytes [2]int
		for i, endpointsOf := range []int{9, 10} {
			name, service := serviceAt(0, endpointsOf)
			change := state.Apply(ruleset.Update{Services: map[types.NamespacedName]*proxy.Service{name: service}}).Change
			if err := tables.Commit(&change); err != nil {
				t.Fatal(err)
			}
			bytes[i] = tables.BatchSize()
		}
		if size == 1 {
			first = bytes
		}
		if bytes != first || bytes[0] > 512 || bytes[1] > 512 {
			t.Errorf("of %d Services, an endpoint that leaves and comes takes %v bytes on the wire, of 1 Service %v; want the same, and at most 512", size, bytes, first)
		}
	}
}

// randomService draws some of everyKind's frontends, with other endpoints, for addresses of its own.
func randomService(t *rapid.T, vip, external string) *proxy.Service {
	service := everyKind("ipv4", vip, external)
	pool := endpoints("ipv4", 40)
	some := func(label string) []proxy.Endpoint {
		from := rapid.IntRange(0, len(pool)).Draw(t, label+" from")
		return pool[from:rapid.IntRange(from, len(pool)).Draw(t, label+" to")]
	}
	service.Frontends = slices.DeleteFunc(service.Frontends, func(proxy.Frontend) bool { return rapid.Bool().Draw(t, "left out") })
	for i := range service.Frontends {
		f := &service.Frontends[i]
		f.Endpoints = some("endpoints")
		if f.ShortCircuit {
			f.ClusterEndpoints = some("cluster endpoints")
		}
		f.AffinitySeconds = rapid.SampledFrom([]int32{0, 5, 30}).Draw(t, "affinity")
	}
	return service
}

// TestAnyEditSequenceLeavesWhatAFreshAgentWouldWrite: an agent that is started afterwards and reads the
// tables has nothing to write to them.
func TestAnyEditSequenceLeavesWhatAFreshAgentWouldWrite(t *testing.T) {
	tables := openTables(t)
	addresses := map[string][2]string{"a": {"10.96.0.1", "192.168.0.1"}, "b": {"10.96.0.2", "192.168.0.2"}, "c": {"10.96.0.3", "192.168.0.3"}}
	rapid.Check(t, func(t *rapid.T) {
		state, commit, current := ruleset.NewState(), tables.Replace, map[types.NamespacedName]*proxy.Service{}
		for range rapid.IntRange(1, 8).Draw(t, "edits") {
			update := ruleset.Update{Services: map[types.NamespacedName]*proxy.Service{}}
			for range rapid.IntRange(1, 2).Draw(t, "services") {
				which := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
				name := types.NamespacedName{Namespace: "default", Name: which}
				update.Services[name] = nil
				if rapid.Bool().Draw(t, "exists") {
					update.Services[name] = randomService(t, addresses[which][0], addresses[which][1])
				}
				current[name] = update.Services[name]
			}
			change := state.Apply(update).Change
			if err := commit(&change); err != nil {
				t.Fatal(err)
			}
			commit = tables.Commit
		}
		found, ours, err := tables.Read()
		if err != nil || !ours {
			t.Fatalf("the tables are not in our layout: %v", err)
		}
		_, result := ruleset.Adopt(found, ruleset.Update{Services: current}, nil)
		result.Change.UDP = nil // flows are looked at in any case
		if !result.Change.Empty() {
			t.Fatalf("a fresh agent would write %+v", result.Change)
		}
	})
}
