package node

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// connectionCounts knows whose the connections are that the kernel counts, which itself knows frontends
// and endpoints only, and how many the endpoints had had that left.
type connectionCounts struct {
	// writes is odd while counters may come and go in the kernel.
	writes atomic.Uint64

	mu       sync.Mutex
	services map[types.NamespacedName]*countedService
	// next are Services as they will be once what is being programmed is committed.
	next map[types.NamespacedName]*countedService
}

// countedService is what tells a Service's connections apart.
type countedService struct {
	name         types.NamespacedName
	serviceGroup string
	frontends    map[proxy.Key]servicePort
	groups       map[backend]string
	sums         map[share]*sum
}

type servicePort struct {
	name     string
	number   uint16
	protocol proxy.Protocol
}

// backend is an endpoint of the Service port of this name.
type backend struct {
	port     string
	endpoint proxy.Endpoint
}

// share is the part of a Service's connections that went to a group by a port.
type share struct {
	port  servicePort
	group string
}

// sum is what is added to the counters of a share that are in the kernel.
type sum struct {
	// left is what endpoints had had when they left.
	left uint64
	// offset makes the metric begin with 0 and never fall, and told is what it said last.
	offset, told int64
}

func newConnectionCounts() *connectionCounts {
	return &connectionCounts{
		services: map[types.NamespacedName]*countedService{}, next: map[types.NamespacedName]*countedService{},
	}
}

// note takes in a Service that is about to be programmed, nil for one that is gone.
func (c *connectionCounts) note(name types.NamespacedName, service *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice, built *proxy.Service) {
	var next *countedService
	if service != nil {
		next = &countedService{
			name: name, serviceGroup: service.Labels[v1alpha1.LabelServiceGroup],
			frontends: make(map[proxy.Key]servicePort, len(built.Frontends)),
			groups:    computeGroups(endpointSlices), sums: map[share]*sum{},
		}
		for i := range built.Frontends {
			f := &built.Frontends[i]
			next.frontends[f.Key] = servicePort{f.PortName, f.ServicePort, f.Protocol}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next[name] = next
}

// computeGroups returns the group of each endpoint that belongs to one. An endpoint of two groups counts
// for the first of them by name.
func computeGroups(endpointSlices []*discoveryv1.EndpointSlice) map[backend]string {
	groups := map[backend]string{}
	for _, slice := range endpointSlices {
		group := slice.Labels[v1alpha1.LabelGroup]
		if group == "" {
			continue
		}
		for i := range slice.Ports {
			p := &slice.Ports[i]
			if p.Name == nil || p.Port == nil {
				continue
			}
			for j := range slice.Endpoints {
				addr, ok := firstAddressOf(&slice.Endpoints[j])
				b := backend{*p.Name, proxy.Endpoint{Addr: addr, Port: uint16(*p.Port)}}
				if other, found := groups[b]; ok && (!found || group < other) {
					groups[b] = group
				}
			}
		}
	}
	return groups
}

func firstAddressOf(ep *discoveryv1.Endpoint) (netip.Addr, bool) {
	if len(ep.Addresses) == 0 {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(ep.Addresses[0])
	return addr, err == nil
}

// commit adds what the endpoints had had that left, and takes over the Services that were noted, but for
// the frontends that another Service has.
func (c *connectionCounts) commit(left []nft.Count, conflicts map[proxy.Key]types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := map[types.NamespacedName]*countedService{}
	for name, next := range c.next {
		if was := c.services[name]; was != nil {
			before[name] = was
		}
		if next == nil {
			delete(c.services, name)
			continue
		}
		if was := before[name]; was != nil {
			next.sums = was.sums
		}
		for key := range next.frontends {
			if holder, disputed := conflicts[key]; disputed && holder != name {
				delete(next.frontends, key)
			}
		}
		c.services[name] = next
	}
	owners := ownersOf(before)
	for _, count := range left {
		if owner := owners[count.Key]; owner != nil {
			owner.sum(count).left += count.Connections
		}
	}
	c.next = map[types.NamespacedName]*countedService{}
}

func ownersOf(services map[types.NamespacedName]*countedService) map[proxy.Key]*countedService {
	owners := make(map[proxy.Key]*countedService, len(services))
	for _, service := range services {
		for key := range service.frontends {
			owners[key] = service
		}
	}
	return owners
}

// sum returns what is added to a counter of this Service.
func (s *countedService) sum(count nft.Count) *sum {
	of := s.share(count)
	if s.sums[of] == nil {
		s.sums[of] = &sum{}
	}
	return s.sums[of]
}

func (s *countedService) share(count nft.Count) share {
	port := s.frontends[count.Key]
	return share{port, s.groups[backend{port.name, count.Endpoint}]}
}

// totals adds up the counters in the kernel by what is added to them. The caller holds mu.
func (c *connectionCounts) totals(kernel []nft.Count) map[*sum]uint64 {
	owners, out := ownersOf(c.services), map[*sum]uint64{}
	for _, count := range kernel {
		if owner := owners[count.Key]; owner != nil {
			out[owner.sum(count)] += count.Connections
		}
	}
	return out
}

// rebase makes the metric go on from what it said last whatever the counters in the kernel say now: they
// may be from before this process, or may have been lost with the tables.
func (c *connectionCounts) rebase(kernel []nft.Count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	totals := c.totals(kernel)
	for _, service := range c.services {
		for _, s := range service.sums {
			s.offset = s.told - int64(totals[s]+s.left)
		}
	}
}

// programCounted programs, and keeps what the counters say that this takes from the kernel.
func (a *Agent) programCounted(full bool, names []types.NamespacedName, ranges *ruleset.Ranges) (ruleset.Result, error) {
	if a.counts == nil {
		return a.program(full, names, ranges)
	}
	a.counts.writes.Add(1)
	defer a.counts.writes.Add(1)
	result, err := a.program(full, names, ranges)
	if err != nil {
		return result, err
	}
	a.counts.commit(a.tables.Left(), result.Conflicts)
	if !full {
		return result, nil
	}
	kernel, err := a.tables.Connections()
	if err != nil {
		return result, fmt.Errorf("reading the counters of connections: %w", err)
	}
	a.counts.rebase(kernel)
	return result, nil
}

// readConnections reads the counters in the kernel and calls use with them while they fit what is known
// of the Services. It tries without holding up the programming first.
func (a *Agent) readConnections(use func(kernel []nft.Count)) error {
	tables, err := nft.Open(a.options.layout())
	if err != nil {
		return fmt.Errorf("connecting to nftables for the counters of connections: %w", err)
	}
	defer tables.Close()
	before := a.counts.writes.Load()
	kernel, err := tables.Connections()
	if err == nil && a.counts.useUnchanged(before, func() { use(kernel) }) {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if kernel, err = tables.Connections(); err != nil {
		return fmt.Errorf("reading the counters of connections: %w", err)
	}
	a.counts.mu.Lock()
	defer a.counts.mu.Unlock()
	use(kernel)
	return nil
}

// useUnchanged calls use if nothing was programmed since writes was read.
func (c *connectionCounts) useUnchanged(writes uint64, use func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if writes%2 != 0 || c.writes.Load() != writes {
		return false
	}
	use()
	return true
}
