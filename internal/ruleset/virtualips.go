package ruleset

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// LeadingToVirtualIPs returns the Services of which an endpoint is the virtual IP of one, sorted. It goes
// through all endpoints.
func (s *State) LeadingToVirtualIPs() []types.NamespacedName {
	isVirtual := func(ep proxy.Endpoint) bool { _, found := s.virtualIPs[ep.Addr]; return found }
	var out []types.NamespacedName
	for name, c := range s.services {
		if slices.ContainsFunc(c.frontends, func(f frontend) bool {
			return slices.ContainsFunc(f.Endpoints, isVirtual) || slices.ContainsFunc(f.ClusterEndpoints, isVirtual)
		}) {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, CompareNames)
	return out
}

// VirtualIPs says whether virtual IPs come and go with a change.
func (c *Change) VirtualIPs() (come, gone bool) {
	isVirtual := func(e Element) bool { return e.Map == VirtualIPs }
	return slices.ContainsFunc(c.Add, isVirtual), slices.ContainsFunc(c.Delete, isVirtual)
}
