package ruleset

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

func name(n string) types.NamespacedName { return types.NamespacedName{Namespace: "default", Name: n} }

func key(addr string, port uint16) proxy.Key {
	return proxy.Key{Addr: netip.MustParseAddr(addr), Port: port, Protocol: proxy.TCP}
}

func pods(numbers ...int) []proxy.Endpoint {
	var out []proxy.Endpoint
	for _, n := range numbers {
		out = append(out, proxy.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, byte(n >> 8), byte(n)}), Port: 80})
	}
	return out
}

// manyPods is 5,000 endpoints.
func manyPods() []proxy.Endpoint {
	var out []proxy.Endpoint
	for i := range 5000 {
		out = append(out, pods(i+1)...)
	}
	return out
}

func one(n string, frontends ...proxy.Frontend) Update {
	return Update{Services: map[types.NamespacedName]*proxy.Service{name(n): {Frontends: frontends}}}
}

func TestComputeSlots(t *testing.T) {
	for _, test := range []struct{ name, old, want, slots string }{
		{name: "first fill", old: "", want: "abc", slots: "abc"},
		{name: "a new one goes to the end", old: "bcd", want: "abcd", slots: "bcda"},
		{name: "the last moves into the hole", old: "abcd", want: "acd", slots: "adc"},
		{name: "a new one fills the hole", old: "abcd", want: "acde", slots: "aecd"},
		{name: "the last leaves", old: "abcd", want: "abc", slots: "abc"},
		{name: "several holes, some at the end", old: "abcdef", want: "bd", slots: "db"},
		{name: "all leave", old: "abc", want: "", slots: ""},
		{name: "all change", old: "abc", want: "xy", slots: "xy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			letters := func(s string) (out []proxy.Endpoint) {
				for _, r := range s {
					out = append(out, pods(int(r))...)
				}
				return out
			}
			if got := computeSlots(letters(test.old), letters(test.want)); !slices.Equal(got, letters(test.slots)) {
				t.Errorf("slots %v, want %v", got, letters(test.slots))
			}
		})
	}
}

func TestOneEndpointOfManyWritesAFewElements(t *testing.T) {
	state := NewState()
	vip := key("10.96.0.1", 80)
	state.Apply(one("big", proxy.Frontend{Key: vip, Endpoints: manyPods()}))

	without := slices.DeleteFunc(manyPods(), func(e proxy.Endpoint) bool { return e == pods(17)[0] })
	change := state.Apply(one("big", proxy.Frontend{Key: vip, Endpoints: without})).Change
	if len(change.Delete) != 2 || len(change.Add) != 1 {
		t.Errorf("removing one endpoint of 5000 deletes %v and adds %v, want 2 and 1", change.Delete, change.Add)
	}
	change = state.Apply(one("big", proxy.Frontend{Key: vip, Endpoints: manyPods()})).Change
	if len(change.Delete) != 0 || len(change.Add) != 1 {
		t.Errorf("adding one endpoint to 4999 deletes %v and adds %v, want 0 and 1", change.Delete, change.Add)
	}
	change = state.Apply(one("big", proxy.Frontend{Key: vip, Endpoints: manyPods()})).Change
	if !change.Empty() {
		t.Errorf("no change writes %v and %v", change.Delete, change.Add)
	}
}

func TestCountersStayWithTheirEndpoints(t *testing.T) {
	state := NewCountingState()
	frontend := func(endpoints ...proxy.Endpoint) proxy.Frontend {
		return proxy.Frontend{Key: key("10.96.0.1", 80), Endpoints: endpoints, ShortCircuit: true, ClusterEndpoints: endpoints}
	}
	counters := func(list []Element) (out []proxy.Endpoint) {
		for _, e := range list {
			if e.Map == Connections {
				out = append(out, e.Endpoint)
			}
		}
		return out
	}
	added := state.Apply(one("web", frontend(pods(1, 2, 3, 4)...))).Change
	if got, want := counters(added.Add), pods(1, 2, 3, 4); !slices.Equal(got, want) {
		t.Errorf("new counters for %v, want %v", got, want)
	}
	// The first leaves, so the last moves to its slot, and the fifth comes.
	changed := state.Apply(one("web", frontend(pods(2, 3, 4, 5)...))).Change
	if deleted, added := counters(changed.Delete), counters(changed.Add); !slices.Equal(deleted, pods(1)) || !slices.Equal(added, pods(5)) {
		t.Errorf("deleted the counters of %v and added those of %v, want %v and %v", deleted, added, pods(1), pods(5))
	}
}

func TestAFrontendWithoutEndpointsIsRefused(t *testing.T) {
	for _, test := range []struct {
		empty proxy.Refusal
		want  ChainKind
	}{{proxy.Reject, Rejecting}, {proxy.Drop, Dropping}} {
		change := NewState().Apply(one("s", proxy.Frontend{Key: key("10.96.0.1", 80), Empty: test.empty})).Change
		if len(change.Add) != 1 || change.Add[0].Chain.Kind != test.want {
			t.Errorf("refusal %v writes %v, want one element that leads to %v", test.empty, change.Add, chainNames[test.want])
		}
	}
}

func TestTwoServicesThatClaimOneFrontend(t *testing.T) {
	state := NewState()
	shared := key("192.0.2.1", 80)
	state.Apply(one("first", proxy.Frontend{Key: shared, Endpoints: pods(1)}))

	result := state.Apply(one("second", proxy.Frontend{Key: shared, Endpoints: pods(2)}))
	if holder := result.Conflicts[shared]; holder != name("first") || !result.Change.Empty() {
		t.Fatalf("conflict with %v, change %v; want a conflict with first and no change", holder, result.Change)
	}
	result = state.Apply(Update{Services: map[types.NamespacedName]*proxy.Service{name("first"): nil}})
	if !slices.Equal(result.Freed, []types.NamespacedName{name("second")}) {
		t.Fatalf("freed %v, want second", result.Freed)
	}
	if result = state.Apply(one("second", proxy.Frontend{Key: shared, Endpoints: pods(2)})); len(result.Conflicts) > 0 {
		t.Fatalf("still in conflict: %v", result.Conflicts)
	}
	want := NewState()
	want.Apply(one("second", proxy.Frontend{Key: shared, Endpoints: pods(2)}))
	if !slices.Equal(state.Elements(), want.Elements()) {
		t.Errorf("elements %v, want %v", state.Elements(), want.Elements())
	}
}

// TestWhoHasAFrontend lets two Services claim one, and applies the writes as the kernel would.
func TestWhoHasAFrontend(t *testing.T) {
	shared := key("192.0.2.1", 80)
	claim := func(created int64, endpoint int) *proxy.Service {
		return &proxy.Service{Created: created, Frontends: []proxy.Frontend{
			{Key: shared, Endpoints: pods(endpoint), Masquerade: proxy.MasqueradeAlways},
		}}
	}
	virtual := &proxy.Service{
		Created: 9, VirtualIPs: []netip.Addr{shared.Addr}, Frontends: []proxy.Frontend{{Key: shared, Endpoints: pods(2)}},
	}
	// The Service whose virtual IP it is has another port.
	lacking := &proxy.Service{
		Created: 9, VirtualIPs: []netip.Addr{shared.Addr}, Frontends: []proxy.Frontend{{Key: key("192.0.2.1", 81), Endpoints: pods(2)}},
	}
	a, b := name("a"), name("b")
	for _, test := range []struct {
		name string
		// before is what a former agent left in the tables, lost what this one had written before they were
		// lost; updates follow one another.
		before, lost Update
		updates      []Update
		// want is the number of the pod to which the frontend leads, 0 if it is refused.
		want int
	}{
		{
			name:    "the older of two that are new",
			updates: []Update{{Services: services(a, claim(2, 1), b, claim(1, 2))}}, want: 2,
		},
		{
			name:    "who had it before an older one came",
			updates: []Update{{Services: services(b, claim(2, 2))}, {Services: services(a, claim(1, 1))}}, want: 2,
		},
		{
			name:    "who had it before the agent was started again",
			before:  Update{Services: services(b, claim(2, 2))},
			updates: []Update{{Services: services(a, claim(1, 1), b, claim(2, 2))}}, want: 2,
		},
		{
			name:    "whose virtual IP it is, of two that are new",
			updates: []Update{{Services: services(a, claim(1, 1), b, virtual)}}, want: 2,
		},
		{
			name:    "whose virtual IP it is, though another had it before",
			updates: []Update{{Services: services(a, claim(1, 1))}, {Services: services(b, virtual)}}, want: 2,
		},
		{
			name:    "whose virtual IP it is, though both change",
			updates: []Update{{Services: services(a, claim(1, 1))}, {Services: services(a, claim(1, 3), b, virtual)}}, want: 2,
		},
		{
			name:    "whose virtual IP it is, though another, younger one had it before the agent was started again",
			before:  Update{Services: services(a, claim(10, 1))},
			updates: []Update{{Services: services(a, claim(10, 1), b, virtual)}}, want: 2,
		},
		{
			name:    "whose virtual IP it is, though another had it before the agent was started again",
			before:  Update{Services: services(a, claim(1, 1))},
			updates: []Update{{Services: services(a, claim(1, 1), b, virtual)}}, want: 2,
		},
		{
			name:    "nobody, where the Service whose virtual IP it is lacks the port",
			updates: []Update{{Services: services(a, claim(1, 1), b, lacking)}},
		},
		{
			name:    "nobody, where it becomes the virtual IP of a Service that lacks the port",
			updates: []Update{{Services: services(a, claim(1, 1))}, {Services: services(b, lacking)}},
		},
		{
			name:    "nobody, where it is the virtual IP of a Service that was there first and lacks the port",
			updates: []Update{{Services: services(b, lacking)}, {Services: services(a, claim(1, 1))}},
		},
		{
			name:    "nobody, where another had it before the agent was started again",
			before:  Update{Services: services(a, claim(1, 1))},
			updates: []Update{{Services: services(a, claim(1, 1), b, lacking)}},
		},
		{
			name:    "the other once the Service that lacks the port is gone",
			updates: []Update{{Services: services(b, lacking)}, {Services: services(a, claim(1, 1))}, {Services: services(b, nil)}}, want: 1,
		},
		{
			name:    "who had it before the tables were lost, whichever is loaded first",
			lost:    Update{Services: services(b, claim(2, 2))},
			updates: []Update{{Services: services(a, claim(1, 1))}, {Services: services(b, claim(2, 2))}}, want: 2,
		},
		{
			name:    "who had it before the tables were lost, of two that are loaded together",
			lost:    Update{Services: services(b, claim(2, 2))},
			updates: []Update{{Services: services(a, claim(1, 1), b, claim(2, 2))}}, want: 2,
		},
		{
			name:    "the other, if who had it before the tables were lost claims it no more",
			lost:    Update{Services: services(b, claim(2, 2))},
			updates: []Update{{Services: services(a, claim(1, 1), b, &proxy.Service{Created: 2})}}, want: 1,
		},
		{
			name:    "whose virtual IP it is, though another had it before the tables were lost",
			lost:    Update{Services: services(a, claim(1, 1))},
			updates: []Update{{Services: services(b, virtual)}, {Services: services(a, claim(1, 1))}}, want: 2,
		},
		{
			name: "who had it before the tables were lost, though they lead to the other",
			lost: Update{Services: services(b, claim(2, 2))}, before: Update{Services: services(a, claim(1, 1))},
			updates: []Update{{Services: services(a, claim(1, 1), b, claim(2, 2))}}, want: 2,
		},
		{
			name:    "the other once that is gone",
			updates: []Update{{Services: services(a, claim(1, 1))}, {Services: services(b, virtual)}, {Services: services(b, nil)}}, want: 1,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			state, k, all := NewState(), &kernel{elements: map[Element]Element{}, chains: map[FamilyChain]bool{}}, services()
			run := func(result Result) Result {
				t.Helper()
				if err := k.apply(&result.Change); err != nil {
					t.Fatal(err)
				}
				return result
			}
			var lost *State
			if test.lost.Services != nil {
				lost = NewState()
				lost.Apply(test.lost)
				state.Inherit(lost)
			}
			if test.before.Services != nil {
				former := NewState()
				run(former.Apply(test.before))
				adopted, result := Adopt(Tables{Elements: former.Elements()}, test.updates[0], lost)
				run(result)
				state, test.updates = adopted, test.updates[1:]
			}
			for _, update := range test.updates {
				for name, service := range update.Services {
					all[name] = service
				}
				if freed := run(state.Apply(update)).Freed; len(freed) > 0 {
					run(state.Apply(Update{Services: services(freed[0], all[freed[0]])}))
				}
			}
			var leads, want []proxy.Endpoint
			for _, e := range k.elements {
				if e.Map == Endpoints && e.Key == shared {
					leads = append(leads, e.Endpoint)
				}
			}
			if test.want != 0 {
				want = pods(test.want)
			}
			if !slices.Equal(leads, want) {
				t.Errorf("the frontend leads to %v, want %v", leads, want)
			}
			if waiting := state.Waiting(); waiting != 1 && test.want != 1 {
				t.Errorf("%d Services wait, want the other", waiting)
			}
			var held []Element
			for _, e := range k.elements {
				held = append(held, e)
			}
			slices.SortFunc(held, Element.Compare)
			if !slices.Equal(held, state.Elements()) {
				t.Errorf("the writes gave %v, the state says %v", held, state.Elements())
			}
		})
	}
}

// services are Services by their names, which alternate with them.
func services(list ...any) map[types.NamespacedName]*proxy.Service {
	out := map[types.NamespacedName]*proxy.Service{}
	for i := 0; i < len(list); i += 2 {
		service, _ := list[i+1].(*proxy.Service)
		out[list[i].(types.NamespacedName)] = service
	}
	return out
}

func TestAffinityForgetsEndpointsThatLeave(t *testing.T) {
	state := NewState()
	sticky := proxy.Frontend{Key: key("10.96.0.1", 80), Endpoints: pods(1, 2), AffinitySeconds: 10}
	change := state.Apply(one("s", sticky)).Change
	learn := FamilyChain{IPv4: true, Chain: Chain{Kind: Learn, N: 10}}
	if !slices.Equal(change.AddChains, []FamilyChain{learn}) || len(change.Forget) != 0 {
		t.Fatalf("chains %v, forgets %v; want %v and none", change.AddChains, change.Forget, learn)
	}
	sticky.Endpoints = pods(1)
	change = state.Apply(one("s", sticky)).Change
	if want := []Forget{{IPv4: true, Share: 1, Endpoint: pods(2)[0]}}; !slices.Equal(change.Forget, want) {
		t.Errorf("forgets %v, want %v", change.Forget, want)
	}
	serves := func(when string, wants ...bool) {
		t.Helper()
		for i, want := range wants {
			if client := (Forget{IPv4: true, Share: 1, Endpoint: pods(i + 1)[0]}); state.Serves(client) != want {
				t.Errorf("%s, %s serves its clients: %v", when, client.Endpoint, !want)
			}
		}
	}
	serves("after the second left", true, false)
	sticky.Endpoints = pods(1, 2)
	state.Apply(one("s", sticky))
	serves("after it came back", true, true)
	change = state.Apply(Update{Services: map[types.NamespacedName]*proxy.Service{name("s"): nil}}).Change
	if want := []Forget{{IPv4: true, Share: 1}}; !slices.Equal(change.Forget, want) || !slices.Equal(change.DeleteChains, []FamilyChain{learn}) {
		t.Errorf("forgets %v and deletes chains %v, want %v and %v", change.Forget, change.DeleteChains, want, learn)
	}
	serves("after the Service was deleted", false, false)
}

func TestFrontendsShareTheirClientsByServicePort(t *testing.T) {
	frontend := func(addr string, port uint16, servicePort uint16, share proxy.AffinityShare) proxy.Frontend {
		return proxy.Frontend{
			Key: key(addr, port), Endpoints: pods(1, 2), AffinitySeconds: 10, ServicePort: servicePort, AffinityShare: share,
		}
	}
	update := one("s",
		frontend("10.96.0.1", 80, 80, proxy.ShareCluster), frontend("10.96.0.1", 81, 81, proxy.ShareCluster),
		frontend("192.168.0.1", 30080, 80, proxy.ShareCluster), frontend("192.168.0.2", 30080, 80, proxy.ShareExternal))
	update.Services[name("other")] = &proxy.Service{Frontends: []proxy.Frontend{frontend("10.96.0.2", 80, 80, proxy.ShareCluster)}}
	numbers := func(list []Element) map[proxy.Key]uint32 {
		out := map[proxy.Key]uint32{}
		for _, e := range list {
			if e.Map == AffinityShares {
				out[e.Key] = e.Chain.N
			}
		}
		return out
	}
	state := NewState()
	got := numbers(state.Apply(update).Change.Add)
	if a, b := got[key("10.96.0.1", 80)], got[key("192.168.0.1", 30080)]; a == 0 || a != b {
		t.Errorf("the addresses of one Service port have the numbers %v", got)
	}
	different := map[uint32]bool{}
	for _, n := range got {
		different[n] = true
	}
	if len(got) != 5 || len(different) != 4 {
		t.Errorf("the numbers are %v, want 5 of which two are equal", got)
	}
	adopted, result := Adopt(Tables{Elements: state.Elements()}, update, nil)
	if !maps.Equal(numbers(adopted.Elements()), got) || len(result.Change.Forget) > 0 {
		t.Errorf("adopted, the numbers are %v, want %v; forgotten are %v", numbers(adopted.Elements()), got, result.Change.Forget)
	}
	// One of two addresses goes: the clients stay. Both go: they are forgotten.
	for _, step := range []struct {
		left   []proxy.Frontend
		forget []Forget
	}{
		{update.Services[name("s")].Frontends[:2], []Forget{{IPv4: true, Share: got[key("192.168.0.2", 30080)]}}},
		{nil, []Forget{{IPv4: true, Share: got[key("10.96.0.1", 80)]}, {IPv4: true, Share: got[key("10.96.0.1", 81)]}}},
	} {
		if change := adopted.Apply(one("s", step.left...)).Change; !slices.Equal(change.Forget, step.forget) {
			t.Errorf("with %d frontends left, forgotten are %v, want %v", len(step.left), change.Forget, step.forget)
		}
	}
}

// TestRenewedTablesKnowTheClients: by the numbers they had, also where another Service comes first now; but not
// to an endpoint that serves no more, nor for a frontend that is gone.
func TestRenewedTablesKnowTheClients(t *testing.T) {
	sticky := func(addr string, endpoints ...int) *proxy.Service {
		return &proxy.Service{Frontends: []proxy.Frontend{{Key: key(addr, 80), Endpoints: pods(endpoints...), AffinitySeconds: 10}}}
	}
	update := func(services map[string]*proxy.Service) Update {
		out := Update{Services: map[types.NamespacedName]*proxy.Service{}}
		for of, service := range services {
			out.Services[name(of)] = service
		}
		return out
	}
	before := NewState()
	for i, of := range []string{"b", "c"} {
		before.Apply(one(of, sticky(fmt.Sprintf("10.96.0.%d", i+2), 1, 2).Frontends...))
	}
	client := func(share uint32, pod int) Remembered {
		return Remembered{Client: netip.MustParseAddr("10.244.9.9"), Share: share, Endpoint: pods(pod)[0], Seconds: 7}
	}
	old := Sessions{Shares: before.Elements(), Clients: []Remembered{client(1, 1), client(1, 2), client(2, 1), client(9, 1)}}

	state := NewState()
	change := state.Renew(old, update(map[string]*proxy.Service{"a": sticky("10.96.0.1", 1, 2), "b": sticky("10.96.0.2", 1, 3)})).Change
	if want := []Remembered{client(1, 1)}; !slices.Equal(change.Remember, want) {
		t.Errorf("remembered are %v, want %v", change.Remember, want)
	}
	if again := state.Apply(one("c", sticky("10.96.0.3", 1).Frontends...)).Change.Add; slices.ContainsFunc(again, func(e Element) bool { return e.Map == AffinityShares && e.Chain.N < 3 }) {
		t.Errorf("a number is given again: %v", again)
	}
}

func TestRangesThatOverlapAreWrittenOnce(t *testing.T) {
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	got := computeRanges(prefixes("10.244.1.0/24", "10.244.0.0/16", "10.244.0.7/16", "10.0.0.0/24", "fd00::/48"))
	if want := prefixes("10.0.0.0/24", "10.244.0.0/16", "fd00::/48"); !slices.Equal(got, want) {
		t.Errorf("ranges %v, want %v", got, want)
	}
}

// someVirtualIP is the virtual IP that Service a has now and then, and that others always claim ports of.
var someVirtualIP = netip.MustParseAddr("10.96.0.2")

// randomServiceNamed is randomService, for Service a sometimes with a virtual IP.
func randomServiceNamed(t *rapid.T, n types.NamespacedName) *proxy.Service {
	service := randomService(t)
	if n != name("a") || !rapid.Bool().Draw(t, "virtual IP") {
		return service
	}
	service.VirtualIPs = []netip.Addr{someVirtualIP}
	for i := range service.Frontends {
		if service.Frontends[i].Addr == someVirtualIP {
			service.Frontends[i].Masquerade = proxy.MasqueradeOutside
		}
	}
	return service
}

// randomService draws a Service whose frontends all lie in a small space, so that Services collide.
func randomService(t *rapid.T) *proxy.Service {
	service := &proxy.Service{}
	keys := rapid.SliceOfNDistinct(rapid.IntRange(0, 7), 0, 4, rapid.ID).Draw(t, "keys")
	slices.Sort(keys)
	eps := func(label string) []proxy.Endpoint {
		list := pods(rapid.SliceOfNDistinct(rapid.IntRange(1, 20), 0, 12, rapid.ID).Draw(t, label)...)
		slices.SortFunc(list, proxy.Endpoint.Compare)
		return list
	}
	for _, k := range keys {
		f := proxy.Frontend{
			Key: key("10.96.0.1", uint16(80+k)), Endpoints: eps("endpoints"),
			Empty:           rapid.SampledFrom([]proxy.Refusal{proxy.Reject, proxy.Drop}).Draw(t, "empty"),
			AffinitySeconds: rapid.SampledFrom([]int32{0, 5, 10}).Draw(t, "affinity"),
			Masquerade:      rapid.SampledFrom([]proxy.Masquerade{proxy.MasqueradeOutside, proxy.MasqueradeAlways, proxy.MasqueradeNode}).Draw(t, "masquerade"),
		}
		if k >= 6 { // an external address, where it is not the virtual IP of Service a
			f.Addr = someVirtualIP
			f.Masquerade = rapid.SampledFrom([]proxy.Masquerade{proxy.MasqueradeAlways, proxy.MasqueradeNode}).Draw(t, "external")
		}
		if rapid.Bool().Draw(t, "short circuit") {
			f.ShortCircuit, f.ClusterEndpoints = true, eps("cluster endpoints")
		}
		if rapid.Bool().Draw(t, "source ranges") {
			f.SourceRanges = []netip.Prefix{}
			for _, bits := range rapid.SliceOfN(rapid.IntRange(8, 24), 0, 3).Draw(t, "ranges") {
				f.SourceRanges = append(f.SourceRanges, netip.PrefixFrom(netip.MustParseAddr("192.0.2.0"), bits))
			}
		}
		service.Frontends = append(service.Frontends, f)
	}
	for _, ep := range eps("locals") {
		service.LocalEndpoints = append(service.LocalEndpoints, ep.Addr)
	}
	return service
}

// kernel applies changes as the kernel does, and refuses what the kernel refuses.
type kernel struct {
	elements map[Element]Element
	chains   map[FamilyChain]bool
}

func identity(e Element) Element {
	id := Element{Map: e.Map, Key: e.Key, Slot: e.Slot, Prefix: e.Prefix}
	if e.Map == Connections {
		id.Endpoint = e.Endpoint
	}
	return id
}

// randomState draws a state with or without counted connections.
func randomState(t *rapid.T) *State {
	return rapid.SampledFrom([]func() *State{NewState, NewCountingState}).Draw(t, "counting")()
}

func (k *kernel) apply(c *Change) error {
	for _, chain := range c.AddChains {
		if k.chains[chain] {
			return fmt.Errorf("chain %v added twice", chain)
		}
		k.chains[chain] = true
	}
	for _, e := range c.Delete {
		if k.elements[identity(e)] != e {
			return fmt.Errorf("deleting %v, the kernel has %v", e, k.elements[identity(e)])
		}
		delete(k.elements, identity(e))
	}
	for _, e := range c.Add {
		if have, found := k.elements[identity(e)]; found {
			return fmt.Errorf("adding %v, the kernel has %v", e, have)
		}
		k.elements[identity(e)] = e
	}
	for _, chain := range c.DeleteChains {
		if !k.chains[chain] {
			return fmt.Errorf("chain %v deleted, it is not there", chain)
		}
		delete(k.chains, chain)
	}
	return nil
}

// canonical takes the numbers of slots and shares, which depend on history, out of elements.
func canonical(elements []Element) []Element {
	out := slices.Clone(elements)
	for i := range out {
		if out[i].Slot = 0; out[i].Map == AffinityShares {
			out[i].Chain = Chain{}
		}
	}
	slices.SortFunc(out, func(x, y Element) int {
		if order := x.Compare(y); order != 0 {
			return order
		}
		return x.Endpoint.Compare(y.Endpoint)
	})
	return out
}

func TestAnyEditSequenceEqualsAFreshBuild(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state, k := randomState(t), &kernel{elements: map[Element]Element{}, chains: map[FamilyChain]bool{}}
		current := map[types.NamespacedName]*proxy.Service{}
		for range rapid.IntRange(1, 12).Draw(t, "edits") {
			update := Update{Services: map[types.NamespacedName]*proxy.Service{}}
			for range rapid.IntRange(1, 3).Draw(t, "services") {
				n := name(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"))
				update.Services[n] = nil
				if rapid.Bool().Draw(t, "exists") {
					update.Services[n] = randomServiceNamed(t, n)
				}
			}
			for n, s := range update.Services {
				current[n] = s
			}
			for len(update.Services) > 0 {
				result := state.Apply(update)
				if err := k.apply(&result.Change); err != nil {
					t.Fatal(err)
				}
				update = Update{Services: map[types.NamespacedName]*proxy.Service{}}
				for _, n := range result.Freed {
					update.Services[n] = current[n]
				}
			}
		}
		checkAgainstFresh(t, state, k, current)

		for n := range current {
			current[n] = nil
		}
		state.Apply(Update{Services: current})
		if len(state.Elements())+len(state.owners)+len(state.virtualIPs)+len(state.externals)+len(state.addresses)+state.Waiting() > 0 {
			t.Fatalf("kept of Services that are gone: %+v", state)
		}
	})
}

func TestAdoptedTablesAreWrittenOnlyWhereTheyAreWrong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// What a former process left, after some history, and somebody else tampered with.
		former, k := randomState(t), &kernel{elements: map[Element]Element{}, chains: map[FamilyChain]bool{}}
		for range rapid.IntRange(0, 3).Draw(t, "edits") {
			change := former.Apply(Update{Services: map[types.NamespacedName]*proxy.Service{name("a"): randomService(t)}}).Change
			if err := k.apply(&change); err != nil {
				t.Fatal(err)
			}
		}
		read := func() (found Tables) {
			found.Counted = former.counted
			for _, e := range k.elements {
				found.Elements = append(found.Elements, e)
			}
			slices.SortFunc(found.Elements, Element.Compare)
			for c := range k.chains {
				found.Learners = append(found.Learners, c)
			}
			return found
		}
		if elements := read().Elements; len(elements) > 0 && rapid.Bool().Draw(t, "tamper") {
			delete(k.elements, identity(rapid.SampledFrom(elements).Draw(t, "deleted")))
		}

		update := Update{Services: map[types.NamespacedName]*proxy.Service{
			name("a"): randomServiceNamed(t, name("a")), name("b"): randomService(t),
		}}
		state, result := Adopt(read(), update, nil)
		if err := k.apply(&result.Change); err != nil {
			t.Fatal(err)
		}
		checkAgainstFresh(t, state, k, update.Services)

		// A second look at the same thing writes nothing.
		if _, result = Adopt(read(), update, nil); len(result.Change.Add)+len(result.Change.Delete)+len(result.Change.AddChains)+len(result.Change.DeleteChains) > 0 {
			t.Fatalf("adopting what is right writes %+v", result.Change)
		}
	})
}

func checkAgainstFresh(t *rapid.T, state *State, k *kernel, current map[types.NamespacedName]*proxy.Service) {
	var held []Element
	for _, e := range k.elements {
		held = append(held, e)
	}
	slices.SortFunc(held, Element.Compare)
	if !slices.Equal(held, state.Elements()) {
		t.Fatalf("the writes gave %v, the state says %v", held, state.Elements())
	}
	// A fresh build resolves conflicts by name, a history by who came first: compare what is
	// the same for both, the Services that are in no conflict, and what is on a virtual IP.
	owners := map[proxy.Key]int{}
	for _, s := range current {
		if s != nil {
			for _, f := range s.Frontends {
				owners[f.Key]++
			}
		}
	}
	if a := current[name("a")]; a != nil && len(a.VirtualIPs) > 0 {
		maps.DeleteFunc(owners, func(k proxy.Key, _ int) bool { return k.Addr == someVirtualIP })
	}
	fresh := NewState()
	fresh.counted = state.counted
	fresh.Apply(Update{Services: current})
	undisputed := func(list []Element) []Element {
		return canonical(slices.DeleteFunc(slices.Clone(list), func(e Element) bool { return owners[e.Key] > 1 }))
	}
	if got, want := undisputed(held), undisputed(fresh.Elements()); !slices.Equal(got, want) {
		t.Fatalf("edits gave %v, a fresh build gives %v", got, want)
	}
}
