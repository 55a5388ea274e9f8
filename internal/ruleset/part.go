package ruleset

import (
	"net/netip"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// Related returns those elements that are about what a Service has: about a frontend or an address of
// its own elements, or about a port of its virtual IPs; and the ranges, which are everybody's.
func Related(elements, own []Element) []Element {
	keys, virtualIPs := map[proxy.Key]bool{}, map[netip.Addr]bool{}
	for _, e := range own {
		keys[e.Key] = true
		if e.Map == VirtualIPs {
			virtualIPs[e.Key.Addr] = true
		}
	}
	var out []Element
	for _, e := range elements {
		if e.Map == PodSources || e.Map == InsideSources || e.Map == ServiceRanges || keys[e.Key] || virtualIPs[e.Key.Addr] {
			out = append(out, e)
		}
	}
	return out
}
