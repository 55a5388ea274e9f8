package trace

import (
	"net/netip"
	"slices"

	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// Tables are what a packet meets on a node.
type Tables struct {
	Elements []ruleset.Element
	Site     agentapi.Site
	// Remembered is what session affinity remembers of the packet's source; nil if that is not known,
	// empty if it is nothing.
	Remembered []ruleset.Remembered
}

// index are elements, ready to be looked up.
type index struct {
	chains    map[ruleset.Map]map[proxy.Key]ruleset.Chain
	endpoints map[ruleset.Map]map[proxy.Key][]proxy.Endpoint
	ranges    map[ruleset.Map][]netip.Prefix
	// sources are the source ranges of frontends.
	sources map[proxy.Key][]netip.Prefix
	// shares are the numbers under which the frontends' clients are remembered.
	shares map[proxy.Key]uint32
}

func newIndex(elements []ruleset.Element) *index {
	t := &index{
		chains: map[ruleset.Map]map[proxy.Key]ruleset.Chain{}, endpoints: map[ruleset.Map]map[proxy.Key][]proxy.Endpoint{},
		ranges: map[ruleset.Map][]netip.Prefix{}, sources: map[proxy.Key][]netip.Prefix{}, shares: map[proxy.Key]uint32{},
	}
	for _, e := range elements {
		switch e.Map {
		case ruleset.Endpoints, ruleset.InsideEndpoints:
			if t.endpoints[e.Map] == nil {
				t.endpoints[e.Map] = map[proxy.Key][]proxy.Endpoint{}
			}
			t.endpoints[e.Map][e.Key] = append(t.endpoints[e.Map][e.Key], e.Endpoint)
		case ruleset.PodSources, ruleset.InsideSources, ruleset.ServiceRanges:
			t.ranges[e.Map] = append(t.ranges[e.Map], e.Prefix)
		case ruleset.SourceRanges:
			t.sources[e.Key] = append(t.sources[e.Key], e.Prefix)
		case ruleset.AffinityShares:
			t.shares[e.Key] = e.Chain.N
		default:
			if t.chains[e.Map] == nil {
				t.chains[e.Map] = map[proxy.Key]ruleset.Chain{}
			}
			t.chains[e.Map][e.Key] = e.Chain
		}
	}
	return t
}

func (t *index) has(m ruleset.Map, key proxy.Key) bool {
	_, found := t.chains[m][key]
	return found
}

func (t *index) within(m ruleset.Map, addr netip.Addr) bool { return contains(t.ranges[m], addr) }

func contains(ranges []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
}
