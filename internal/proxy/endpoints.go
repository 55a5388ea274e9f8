package proxy

import (
	"cmp"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// candidate is an endpoint of one Service port with what decides whether it is chosen.
type candidate struct {
	Endpoint
	ready              bool
	serving            bool
	servingTerminating bool
	local              bool
	hintNodes          []discoveryv1.ForNode
	hintZones          []discoveryv1.ForZone
	// slice is the place of its slice among the Service's.
	slice int
}

// choice is the endpoints of one Service port under both traffic policies.
type choice struct {
	cluster []Endpoint
	local   []Endpoint
	// serving are the endpoints that may go on with a UDP flow they have; nil for other protocols.
	serving []Endpoint
	// any says whether an endpoint exists anywhere, which tells Drop from Reject.
	any bool
}

// computeCandidates appends to out the endpoints of one port and family, sorted by address, without
// duplicates. Of two entries for one address the one that is not terminating wins: a Pod's address
// may be in two slices while it moves between them.
func (b *builder) computeCandidates(out []candidate, portName string, protocol Protocol, ipv4 bool) []candidate {
	most := 0
	for _, slice := range b.slices {
		most += len(slice.Endpoints)
	}
	out = slices.Grow(out, most)
	for n, slice := range b.slices {
		if ipv4 != (slice.AddressType == discoveryv1.AddressTypeIPv4) {
			continue
		}
		port, ok := slicePort(slice, portName, protocol)
		if !ok {
			continue
		}
		for i := range slice.Endpoints {
			if c, ok := b.computeCandidate(&slice.Endpoints[i], port, ipv4); ok {
				c.slice = n
				out = append(out, c)
			}
		}
	}
	slices.SortFunc(out, func(x, y candidate) int {
		if order := x.Compare(y.Endpoint); order != 0 {
			return order
		}
		return cmp.Or(rank(x)-rank(y), x.slice-y.slice)
	})
	return slices.CompactFunc(out, func(x, y candidate) bool {
		same := x.Endpoint == y.Endpoint
		if same && x.slice == y.slice {
			b.ignore(x.Addr.String(), DuplicateAddress)
		}
		return same
	})
}

// rank orders entries for one address: the one to keep first.
func rank(c candidate) int {
	switch {
	case c.ready:
		return 0
	case c.servingTerminating:
		return 1
	}
	return 2
}

func (b *builder) computeCandidate(ep *discoveryv1.Endpoint, port uint16, ipv4 bool) (candidate, bool) {
	if len(ep.Addresses) == 0 {
		return candidate{}, false
	}
	addr, _ := netip.ParseAddr(ep.Addresses[0]) // not valid where it is no address
	if reason := computeReason(addr, port, ipv4, &b.node); reason != "" {
		b.ignore(ep.Addresses[0], reason)
		return candidate{}, false
	}
	terminating := ep.Conditions.Terminating != nil && *ep.Conditions.Terminating
	serving := ep.Conditions.Serving == nil || *ep.Conditions.Serving
	c := candidate{
		Endpoint:           Endpoint{Addr: addr, Port: port},
		ready:              ep.Conditions.Ready == nil || *ep.Conditions.Ready,
		serving:            serving,
		servingTerminating: serving && terminating,
		local:              ep.NodeName != nil && *ep.NodeName == b.node.Name,
	}
	if ep.Hints != nil {
		c.hintNodes, c.hintZones = ep.Hints.ForNodes, ep.Hints.ForZones
	}
	return c, true
}

// slicePort says whether a slice has the port, and its number, 0 if that is none to connect to.
func slicePort(slice *discoveryv1.EndpointSlice, name string, protocol Protocol) (number uint16, found bool) {
	for i := range slice.Ports {
		p := &slice.Ports[i]
		if (p.Name != nil || name != "") && (p.Name == nil || *p.Name != name) || slicePortProtocol(p) != protocol {
			continue
		}
		if p.Port != nil && *p.Port > 0 && *p.Port <= 65535 {
			return uint16(*p.Port), true
		}
		found = true
	}
	return 0, found
}

func slicePortProtocol(p *discoveryv1.EndpointPort) Protocol {
	if p.Protocol == nil {
		return TCP
	}
	return protocolNumber(*p.Protocol)
}

// computeChoice splits candidates by traffic policy: ready endpoints, and only where there is none
// the terminating ones that still serve, separately for each policy.
func computeChoice(candidates []candidate, node Node) choice {
	isReady := func(c *candidate) bool { return c.ready }
	isDraining := func(c *candidate) bool { return c.servingTerminating }
	isLocal := func(test func(*candidate) bool) func(*candidate) bool {
		return func(c *candidate) bool { return c.local && test(c) }
	}
	hinted := hintFilter(candidates, node)

	cluster := pick(candidates, func(c *candidate) bool { return c.ready && hinted(c) })
	if len(cluster) == 0 {
		cluster = pick(candidates, isDraining)
	}
	local := pick(candidates, isLocal(isReady))
	if len(local) == 0 {
		local = pick(candidates, isLocal(isDraining))
	}
	return choice{cluster: cluster, local: local, any: len(cluster) > 0 || len(local) > 0}
}

// hintFilter returns the topology test for ready endpoints: node hints, then zone hints, each only
// if every ready endpoint carries one and at least one of them names this node or zone. Otherwise
// every endpoint passes.
func hintFilter(candidates []candidate, node Node) func(*candidate) bool {
	forNode := func(c *candidate) bool {
		return slices.ContainsFunc(c.hintNodes, func(h discoveryv1.ForNode) bool { return h.Name == node.Name })
	}
	forZone := func(c *candidate) bool {
		return slices.ContainsFunc(c.hintZones, func(h discoveryv1.ForZone) bool { return h.Name == node.Zone })
	}
	allNodes, allZones, anyNode, anyZone := true, true, false, false
	for i := range candidates {
		c := &candidates[i]
		if !c.ready {
			continue
		}
		allNodes = allNodes && len(c.hintNodes) > 0
		allZones = allZones && len(c.hintZones) > 0
		anyNode = anyNode || forNode(c)
		anyZone = anyZone || forZone(c)
	}
	switch {
	case allNodes && anyNode:
		return forNode
	case allZones && anyZone && node.Zone != "":
		return forZone
	}
	return func(*candidate) bool { return true }
}

func pick(candidates []candidate, test func(*candidate) bool) []Endpoint {
	n := 0
	for i := range candidates {
		if test(&candidates[i]) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	out := make([]Endpoint, 0, n)
	for i := range candidates {
		if test(&candidates[i]) {
			out = append(out, candidates[i].Endpoint)
		}
	}
	return out
}
