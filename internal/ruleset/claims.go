package ruleset

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// Of several Services that claim one frontend, that has it
//
//  1. whose virtual IP it is: the API server gives none twice, but anybody may write one into his
//     external addresses;
//  2. that had it before;
//  3. that is older.

// sortedNames returns the names of Services, the oldest first.
func sortedNames(services map[types.NamespacedName]*proxy.Service) []types.NamespacedName {
	names := make([]types.NamespacedName, 0, len(services))
	for name := range services {
		names = append(names, name)
	}
	created := func(name types.NamespacedName) int64 {
		if service := services[name]; service != nil {
			return service.Created
		}
		return 0
	}
	slices.SortFunc(names, func(x, y types.NamespacedName) int {
		return cmp.Or(cmp.Compare(created(x), created(y)), CompareNames(x, y))
	})
	return names
}

// claim gives frontends to those who have a better claim than to be older.
func (u *updater) claim(names []types.NamespacedName, services map[types.NamespacedName]*proxy.Service) {
	for _, name := range names {
		service := services[name]
		for i := 0; service != nil && i < len(service.Frontends); i++ {
			if key := service.Frontends[i].Key; slices.Contains(service.VirtualIPs, key.Addr) {
				u.evict(key, name, services)
				u.owners[key] = name
			}
		}
	}
	if u.hints != nil {
		u.claimAdopted(names, services)
	}
}

// evict takes a frontend from the Service that has it for another, unless the one is applied anyway.
func (u *updater) evict(key proxy.Key, other types.NamespacedName, services map[types.NamespacedName]*proxy.Service) {
	holder, taken := u.owners[key]
	if _, applied := services[holder]; !taken || applied {
		return
	}
	c := u.services[holder]
	i, found := slices.BinarySearchFunc(c.frontends, key, func(f frontend, k proxy.Key) int { return f.Key.Compare(k) })
	if found {
		u.removeFrontend(&c.frontends[i])
		c.frontends = slices.Delete(c.frontends, i, i+1)
	}
	u.conflicts[key] = other
	u.waiting[holder] = struct{}{}
}

// claimAdopted gives a frontend that several claim to the one to whose endpoints the adopted tables lead
// most, and of those to the one that has fewest others.
func (u *updater) claimAdopted(names []types.NamespacedName, services map[types.NamespacedName]*proxy.Service) {
	claims := map[proxy.Key]int{}
	for _, service := range services {
		for i := 0; service != nil && i < len(service.Frontends); i++ {
			claims[service.Frontends[i].Key]++
		}
	}
	type rank struct{ shared, others int }
	best := map[proxy.Key]rank{}
	for _, name := range names {
		service := services[name]
		for i := 0; service != nil && i < len(service.Frontends); i++ {
			f := &service.Frontends[i]
			shared := u.countAdopted(Endpoints, f.Key, f.Endpoints) + u.countAdopted(InsideEndpoints, f.Key, f.ClusterEndpoints)
			others := len(f.Endpoints) + len(f.ClusterEndpoints) - shared
			before, known := best[f.Key]
			if holder, taken := u.owners[f.Key]; taken && !known && holder != name || claims[f.Key] == 1 || shared == 0 {
				continue // the virtual IP of another, or nothing to tell
			}
			if !known || shared > before.shared || shared == before.shared && others < before.others {
				best[f.Key], u.owners[f.Key] = rank{shared, others}, name
			}
		}
	}
}

// countAdopted counts the endpoints that an adopted frontend has already.
func (u *updater) countAdopted(m Map, key proxy.Key, sorted []proxy.Endpoint) (n int) {
	for _, ep := range u.hints[slotMap{m, key}] {
		if _, found := slices.BinarySearchFunc(sorted, ep, proxy.Endpoint.Compare); found {
			n++
		}
	}
	return n
}
