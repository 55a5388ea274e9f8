package ruleset

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// updater computes one Change against a State and changes the State along.
type updater struct {
	*State
	change    Change
	conflicts map[proxy.Key]types.NamespacedName
	released  bool
	touched   []FamilyChain
}

// CompareNames orders Services by namespace and name.
func CompareNames(x, y types.NamespacedName) int {
	return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Name, y.Name))
}

// release gives up the frontends and the virtual IPs that a Service no longer has.
func (u *updater) release(name types.NamespacedName, service *proxy.Service) {
	old := u.services[name]
	if old == nil {
		return
	}
	for i := range old.frontends {
		key := old.frontends[i].Key
		if service == nil || findFrontend(service.Frontends, key) == nil {
			delete(u.owners, key)
			u.released = true
		}
	}
	for _, addr := range old.virtualIPs {
		if (service == nil || !slices.Contains(service.VirtualIPs, addr)) && u.virtualIPs[addr] == name {
			delete(u.virtualIPs, addr)
			u.released = true
		}
	}
}

func findFrontend(sorted []proxy.Frontend, key proxy.Key) *proxy.Frontend {
	i, found := slices.BinarySearchFunc(sorted, key, func(f proxy.Frontend, k proxy.Key) int { return f.Key.Compare(k) })
	if !found {
		return nil
	}
	return &sorted[i]
}

// apply brings one Service from its committed to its wanted frontends.
func (u *updater) apply(name types.NamespacedName, service *proxy.Service) {
	old := u.services[name]
	if old == nil {
		old = &committed{}
	}
	if service == nil {
		service = &proxy.Service{}
	}
	next := &committed{virtualIPs: service.VirtualIPs, locals: service.LocalEndpoints}
	delete(u.waiting, name)
	previous := old.frontends
	for i := range service.Frontends {
		want := &service.Frontends[i]
		for len(previous) > 0 && previous[0].Compare(want.Key) < 0 {
			u.removeFrontend(&previous[0])
			previous = previous[1:]
		}
		var was *frontend
		if len(previous) > 0 && previous[0].Key == want.Key {
			was, previous = &previous[0], previous[1:]
		}
		if holder := u.holderFor(want.Key, name); holder != name {
			if was != nil {
				u.removeFrontend(was)
			}
			if u.owners[want.Key] == name { // it claimed what is the virtual IP of another
				delete(u.owners, want.Key)
			}
			u.conflicts[want.Key] = holder
			u.waiting[name] = struct{}{}
			continue
		}
		u.owners[want.Key] = name
		next.frontends = append(next.frontends, u.changeFrontend(name, was, want))
	}
	for i := range previous {
		u.removeFrontend(&previous[i])
	}
	u.diffAddresses(VirtualIPs, old.virtualIPs, next.virtualIPs)
	u.diffAddresses(LocalEndpoints, old.locals, next.locals)
	if len(next.frontends) == 0 && len(next.virtualIPs) == 0 && len(next.locals) == 0 {
		delete(u.services, name)
	} else {
		u.services[name] = next
	}
}

// holderFor returns who has a frontend or gets it, if a Service claims it.
func (u *updater) holderFor(key proxy.Key, name types.NamespacedName) types.NamespacedName {
	if owner, virtual := u.virtualIPs[key.Addr]; virtual {
		return owner
	}
	if holder, taken := u.owners[key]; taken {
		return holder
	}
	return name
}

// changeFrontend writes the difference between a committed frontend, nil for none, and the wanted
// one.
func (u *updater) changeFrontend(name types.NamespacedName, was *frontend, want *proxy.Frontend) frontend {
	next := frontend{Frontend: *want}
	if was == nil {
		was = &frontend{}
		was.Endpoints = u.hints[slotMap{Endpoints, want.Key}]
		was.ClusterEndpoints = u.hints[slotMap{InsideEndpoints, want.Key}]
	}
	next.Endpoints = u.diffSlots(Endpoints, want.Key, was.Endpoints, want.Endpoints)
	next.ClusterEndpoints = u.diffSlots(InsideEndpoints, want.Key, was.ClusterEndpoints, want.ClusterEndpoints)
	next.share = u.shares.take(name, want)
	u.giveUp(was.share)
	old, wanted := was.hops(), next.hops()
	for i := range wanted {
		u.diffHop(want.Key, old[i], wanted[i])
	}
	next.SourceRanges = u.diffRanges(SourceRanges, want.Key, was.SourceRanges, want.SourceRanges)
	u.diffConnections(want.Key, was.all(), next.all())
	u.forget(was, &next)
	u.countExternal(want, 1)
	u.countExternal(&was.Frontend, -1)
	return next
}

func (u *updater) removeFrontend(was *frontend) {
	u.diffSlots(Endpoints, was.Key, was.Endpoints, nil)
	u.diffSlots(InsideEndpoints, was.Key, was.ClusterEndpoints, nil)
	u.giveUp(was.share)
	for _, h := range was.hops() {
		u.diffHop(was.Key, h, hop{m: h.m})
	}
	u.diffRanges(SourceRanges, was.Key, was.SourceRanges, nil)
	u.diffConnections(was.Key, was.all(), nil)
	u.forget(was, &frontend{})
	u.countExternal(&was.Frontend, -1)
}

// countExternal keeps the addresses that frontends have which are not the virtual IP of their Service.
func (u *updater) countExternal(f *proxy.Frontend, by int) {
	if !f.Addr.IsValid() || f.Masquerade == proxy.MasqueradeOutside {
		return
	}
	if u.externals[f.Addr] += by; u.externals[f.Addr] == 0 {
		delete(u.externals, f.Addr)
	}
}

// forget notes what must not go on as before once a frontend has changed: clients with session
// affinity to an endpoint that left, and UDP flows, which have no end that would bring them to
// another endpoint.
func (u *updater) forget(was, next *frontend) {
	key := was.Key
	if !key.Addr.IsValid() {
		key = next.Key
	}
	sticky := was.share != nil && was.share == next.share
	if !sticky && key.Protocol != proxy.UDP {
		return
	}
	if sticky {
		for ep := range difference(was.all(), next.all()) {
			u.change.Forget = append(u.change.Forget, Forget{IPv4: key.Addr.Is4(), Share: next.share.number, Endpoint: ep})
		}
	}
	if key.Protocol != proxy.UDP {
		return
	}
	first := len(was.all()) == 0
	if first || len(difference(was.mayAnswer(), next.mayAnswer())) > 0 {
		u.change.UDP = append(u.change.UDP, Serving{Key: key, Endpoints: next.mayAnswer()})
	}
}

// difference returns what is in the first list and not in the second.
func difference(list, without []proxy.Endpoint) map[proxy.Endpoint]struct{} {
	left := map[proxy.Endpoint]struct{}{}
	for _, ep := range list {
		left[ep] = struct{}{}
	}
	for _, ep := range without {
		delete(left, ep)
	}
	return left
}

// all are the endpoints that any connection to the frontend may have.
func (f *frontend) all() []proxy.Endpoint {
	if len(f.ClusterEndpoints) == 0 {
		return f.Endpoints
	}
	return slices.Concat(f.Endpoints, f.ClusterEndpoints)
}

// mayAnswer are the endpoints that any UDP flow to the frontend may have: those for new ones, and those that
// serve the flows they have.
func (f *frontend) mayAnswer() []proxy.Endpoint {
	return slices.Concat(f.all(), f.Serving)
}

// hop is a frontend's element in one of the maps that are not endpoints.
type hop struct {
	m       Map
	present bool
	chain   Chain
}

// The places of hops, one for each map that a frontend may be in.
const (
	hopFirst = iota
	hopChecked
	hopAffinity
	hopOutside
	hopInside
	hopLearner
	hopShare
	hopMasquerade
	numHops
)

// hops returns the frontend's elements, present or not. A new connection goes through the checks
// the frontend has, one after the other, each in a chain that knows the map of the next; the zero
// frontend is in no map.
func (f *frontend) hops() [numHops]hop {
	list := [numHops]hop{
		{m: Frontends}, {m: CheckedFrontends}, {m: AffinityFrontends}, {m: OutsideFrontends},
		{m: InsideFrontends}, {m: AffinityLearners}, {m: AffinityShares}, {m: MasqueradeFrontends},
	}
	if !f.Addr.IsValid() {
		return list
	}
	at := hopFirst
	through := func(kind ChainKind, next int) {
		list[at].present, list[at].chain = true, Chain{Kind: kind}
		at = next
	}
	if f.SourceRanges != nil {
		through(CheckSources, hopChecked)
	}
	if f.AffinitySeconds > 0 {
		through(Affinity, hopAffinity)
		list[hopLearner].present, list[hopLearner].chain = true, Chain{Kind: Learn, N: uint32(f.AffinitySeconds)}
		list[hopShare].present, list[hopShare].chain = true, Chain{Kind: Share, N: f.share.number}
	}
	if f.ShortCircuit {
		through(Local, hopOutside)
		list[hopInside].present, list[hopInside].chain = true, pickChain(InsidePick, f.ClusterEndpoints, proxy.Reject)
	}
	list[at].present, list[at].chain = true, pickChain(Pick, f.Endpoints, f.Empty)
	switch f.Masquerade {
	case proxy.MasqueradeAlways:
		list[hopMasquerade].present = true
	case proxy.MasqueradeNode:
		list[hopMasquerade] = hop{m: MasqueradeNodeFrontends, present: true}
	case proxy.MasqueradeOutside:
	}
	return list
}

func pickChain(kind ChainKind, endpoints []proxy.Endpoint, empty proxy.Refusal) Chain {
	switch {
	case len(endpoints) > 0:
		return Chain{Kind: kind, N: slotsFor(len(endpoints))}
	case empty == proxy.Drop:
		return Chain{Kind: Dropping}
	}
	return Chain{Kind: Rejecting}
}

func (u *updater) diffHop(key proxy.Key, old, want hop) {
	if old == want {
		return
	}
	if old.present {
		u.change.Delete = append(u.change.Delete, Element{Map: old.m, Key: key, Chain: old.chain})
		u.countLearner(key, old.chain, -1)
	}
	if want.present {
		u.change.Add = append(u.change.Add, Element{Map: want.m, Key: key, Chain: want.chain})
		u.countLearner(key, want.chain, 1)
	}
}

// countLearner keeps the learn chains that elements lead to.
func (u *updater) countLearner(key proxy.Key, chain Chain, by int) {
	if chain.Kind != Learn {
		return
	}
	familyChain := FamilyChain{IPv4: key.Addr.Is4(), Chain: chain}
	if !slices.Contains(u.touched, familyChain) {
		u.touched = append(u.touched, familyChain)
		if u.learners[familyChain] == 0 {
			u.change.AddChains = append(u.change.AddChains, familyChain)
		}
	}
	u.learners[familyChain] += by
}

// finishChains drops the chains that nothing leads to any more.
func (u *updater) finishChains() {
	for _, c := range u.touched {
		if u.learners[c] > 0 {
			continue
		}
		delete(u.learners, c)
		if i := slices.Index(u.change.AddChains, c); i >= 0 {
			u.change.AddChains = slices.Delete(u.change.AddChains, i, i+1)
		} else {
			u.change.DeleteChains = append(u.change.DeleteChains, c)
		}
	}
}

// diffSlots writes the slots that change and returns the new ones.
func (u *updater) diffSlots(m Map, key proxy.Key, old, want []proxy.Endpoint) []proxy.Endpoint {
	next := computeSlots(old, want)
	for i := range max(len(old), len(next)) {
		if i < len(old) && i < len(next) && old[i] == next[i] {
			continue
		}
		if i < len(old) {
			u.change.Delete = append(u.change.Delete, Element{Map: m, Key: key, Slot: uint32(i), Endpoint: old[i]})
		}
		if i < len(next) {
			u.change.Add = append(u.change.Add, Element{Map: m, Key: key, Slot: uint32(i), Endpoint: next[i]})
		}
	}
	return next
}

// diffAddresses counts addresses, since one pod may be an endpoint of several Services.
func (u *updater) diffAddresses(m Map, old, want []netip.Addr) {
	for _, addr := range want {
		if u.addresses[addressInMap{m, addr}]++; u.addresses[addressInMap{m, addr}] == 1 {
			u.change.Add = append(u.change.Add, Element{Map: m, Key: proxy.Key{Addr: addr}})
		}
	}
	for _, addr := range old {
		if u.addresses[addressInMap{m, addr}]--; u.addresses[addressInMap{m, addr}] == 0 {
			delete(u.addresses, addressInMap{m, addr})
			u.change.Delete = append(u.change.Delete, Element{Map: m, Key: proxy.Key{Addr: addr}})
		}
	}
}

// freed returns the waiting Services that were not part of this update, if a frontend became free.
func (u *updater) freed(applied map[types.NamespacedName]*proxy.Service) []types.NamespacedName {
	if !u.released {
		return nil
	}
	var out []types.NamespacedName
	for name := range u.waiting {
		if _, found := applied[name]; !found {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, CompareNames)
	return out
}
