package ruleset

import (
	"cmp"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// Of several Services that claim one frontend, that has it
//
//  1. whose virtual IP the address is, on every port, also on those that it lacks: the API server gives
//     no virtual IP twice, but anybody may write one into his external addresses;
//  2. that had it before, also if the tables were lost meanwhile;
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
		if service := services[name]; service != nil {
			for _, addr := range service.VirtualIPs {
				u.claimAddress(addr, name, services)
			}
		}
	}
	if u.former != nil {
		u.claimFormer(names, services)
	}
	if u.hints != nil {
		u.claimAdopted(names, services)
	}
}

// claimAddress makes an address the virtual IP of a Service, unless it is another's.
func (u *updater) claimAddress(addr netip.Addr, name types.NamespacedName, services map[types.NamespacedName]*proxy.Service) {
	if _, known := u.virtualIPs[addr]; known {
		return
	}
	u.virtualIPs[addr] = name
	if u.externals[addr] == 0 {
		return
	}
	var keys []proxy.Key // rarely any, and in an order that does not depend on the map's
	for key := range u.owners {
		if key.Addr == addr {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, proxy.Key.Compare)
	for _, key := range keys {
		u.evict(key, name, services)
	}
}

// claimFormer gives frontends to those who had them before the tables were lost.
func (u *updater) claimFormer(names []types.NamespacedName, services map[types.NamespacedName]*proxy.Service) {
	for _, name := range names {
		service := services[name]
		for i := 0; service != nil && i < len(service.Frontends); i++ {
			key := service.Frontends[i].Key
			_, virtual := u.virtualIPs[key.Addr]
			if former, had := u.former.owners[key]; had && former == name && !virtual {
				u.evict(key, name, services)
				u.owners[key] = name
			}
		}
	}
}

// evict takes a frontend from whoever else has it for the Service of this name. A Service that is applied
// anyway finds out by itself.
func (u *updater) evict(key proxy.Key, name types.NamespacedName, services map[types.NamespacedName]*proxy.Service) {
	holder, taken := u.owners[key]
	if !taken || holder == name {
		return
	}
	delete(u.owners, key)
	if _, applied := services[holder]; applied {
		return
	}
	c := u.services[holder]
	i, found := slices.BinarySearchFunc(c.frontends, key, func(f frontend, k proxy.Key) int { return f.Key.Compare(k) })
	if found {
		u.removeFrontend(&c.frontends[i])
		c.frontends = slices.Delete(c.frontends, i, i+1)
	}
	u.conflicts[key] = name
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
				continue // known to have been another's, or nothing to tell
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
