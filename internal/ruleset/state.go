package ruleset

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// State is what the tables hold, Service by Service, after the last Change was committed.
// The zero value is not ready for use; call NewState.
type State struct {
	services map[types.NamespacedName]*committed
	owners   map[proxy.Key]types.NamespacedName
	// virtualIPs says whose virtual IP an address is, and externals how many frontends lie on one of others.
	virtualIPs map[netip.Addr]types.NamespacedName
	externals  map[netip.Addr]int
	waiting    map[types.NamespacedName]struct{}
	addresses  map[addressInMap]int
	learners   map[FamilyChain]int
	ranges     map[Map][]netip.Prefix
	shares     shares
	// counted says that every endpoint of a frontend has an element in Connections.
	counted bool
	// hints are the slots that endpoints should have, while tables are adopted.
	hints map[slotMap][]proxy.Endpoint
	// former is what there was before the tables were lost; see Inherit.
	former *State
}

// committed is what the tables hold for one Service.
type committed struct {
	frontends  []frontend
	virtualIPs []netip.Addr
	locals     []netip.Addr
}

// addressInMap counts for how many Services an address is in a set.
type addressInMap struct {
	m    Map
	addr netip.Addr
}

// frontend is a committed frontend; its endpoints are in slot order.
type frontend struct {
	proxy.Frontend
	// share is what it shares its clients' endpoints by, nil without session affinity.
	share *share
}

// NewState returns the state of tables without elements.
func NewState() *State {
	return &State{
		services:   map[types.NamespacedName]*committed{},
		owners:     map[proxy.Key]types.NamespacedName{},
		virtualIPs: map[netip.Addr]types.NamespacedName{},
		externals:  map[netip.Addr]int{},
		waiting:    map[types.NamespacedName]struct{}{},
		addresses:  map[addressInMap]int{},
		learners:   map[FamilyChain]int{},
		ranges:     map[Map][]netip.Prefix{},
		shares:     newShares(),
	}
}

// NewCountingState is NewState for tables that count connections.
func NewCountingState() *State {
	s := NewState()
	s.counted = true
	return s
}

// Inherit makes the Services keep the frontends that they had in a former state, nil for none, while it is
// built anew.
func (s *State) Inherit(former *State) { s.former = former }

// Ranges are the address ranges the node tells apart.
type Ranges struct {
	// Pods are the ranges of pod addresses, whose connections escape policy Local.
	Pods []netip.Prefix `json:"pods,omitempty"`
	// Inside are the ranges whose connections to a virtual IP are not masqueraded.
	Inside []netip.Prefix `json:"inside,omitempty"`
	// Services are the ranges of virtual IPs: a packet to an address of theirs that no Service has
	// is dropped instead of leaving by the default route.
	Services []netip.Prefix `json:"services,omitempty"`
}

func (r *Ranges) byMap() map[Map][]netip.Prefix {
	return map[Map][]netip.Prefix{PodSources: r.Pods, InsideSources: r.Inside, ServiceRanges: r.Services}
}

// rangeMaps are the maps of byMap in the order in which they are written.
var rangeMaps = []Map{PodSources, ServiceRanges, InsideSources}

// Update is what changed: Services by name, nil for one that is gone, and the ranges if they
// changed.
type Update struct {
	Services map[types.NamespacedName]*proxy.Service
	Ranges   *Ranges
}

// Result is what an Update led to.
type Result struct {
	Change Change
	// Conflicts are the frontends that were left out because another Service has them already,
	// with the Service that has them.
	Conflicts map[proxy.Key]types.NamespacedName
	// Freed are the Services that had a conflict when a frontend became free: build them again.
	Freed []types.NamespacedName
}

// Apply changes the state and returns the writes that bring the tables from the old state to the
// new one. If the caller cannot commit them, the state is lost: it must start again from a new
// State and fresh tables.
func (s *State) Apply(update Update) Result {
	u := &updater{State: s, conflicts: map[proxy.Key]types.NamespacedName{}}
	u.change.Add = make([]Element, 0, estimate(update.Services))
	names := sortedNames(update.Services)
	// Release first: a frontend may move from one Service to another within one update.
	for _, name := range names {
		u.release(name, update.Services[name])
	}
	u.claim(names, update.Services)
	for _, name := range names {
		u.apply(name, update.Services[name])
	}
	if update.Ranges != nil {
		wanted := update.Ranges.byMap()
		for _, m := range rangeMaps {
			s.ranges[m] = u.diffRanges(m, proxy.Key{}, s.ranges[m], wanted[m])
		}
	}
	u.finishChains()
	return Result{Change: u.change, Conflicts: u.conflicts, Freed: u.freed(update.Services)}
}

// estimate is how many elements so many new Services have at most, where there are so many that
// growing to it step by step would cost more memory than the elements; 0 where there are few.
func estimate(services map[types.NamespacedName]*proxy.Service) int {
	const many = 100
	if len(services) < many {
		return 0
	}
	n := 0
	for _, service := range services {
		if service == nil {
			continue
		}
		n += len(service.VirtualIPs) + len(service.LocalEndpoints)
		for i := range service.Frontends {
			f := &service.Frontends[i]
			n += 2 + len(f.Endpoints) + len(f.ClusterEndpoints)
		}
	}
	return n
}

// Len returns the number of Services the state holds.
func (s *State) Len() int { return len(s.services) }

// Elements returns every element the tables hold, sorted.
func (s *State) Elements() []Element { return s.elements(s.services) }

// ElementsOf returns the elements that one Service has, and the ranges, sorted.
func (s *State) ElementsOf(name types.NamespacedName) []Element {
	one := map[types.NamespacedName]*committed{}
	if c := s.services[name]; c != nil {
		one[name] = c
	}
	return s.elements(one)
}

// Waiting returns the number of Services of which a frontend is left out because another one has it.
func (s *State) Waiting() int { return len(s.waiting) }

// Holder returns the Service that has a frontend, or will have it: by its virtual IP, or since it had it
// formerly.
func (s *State) Holder(key proxy.Key) (types.NamespacedName, bool) {
	if name, known := s.virtualIPs[key.Addr]; known {
		return name, true
	}
	name, found := s.owners[key]
	if !found && s.former != nil {
		return s.former.Holder(key)
	}
	return name, found
}

func (s *State) elements(services map[types.NamespacedName]*committed) []Element {
	u := &updater{State: NewState(), conflicts: map[proxy.Key]types.NamespacedName{}}
	u.counted, u.shares = s.counted, s.shares.copy()
	for name, c := range services {
		service := proxy.Service{VirtualIPs: c.virtualIPs, LocalEndpoints: c.locals}
		for _, f := range c.frontends {
			service.Frontends = append(service.Frontends, f.Frontend)
		}
		u.apply(name, &service)
	}
	for _, m := range rangeMaps {
		u.diffRanges(m, proxy.Key{}, nil, s.ranges[m])
	}
	slices.SortFunc(u.change.Add, Element.Compare)
	return u.change.Add
}
