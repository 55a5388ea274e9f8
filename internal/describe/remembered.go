package describe

import (
	"net/netip"
	"slices"

	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// memoryOf is what session affinity remembers of a client in the node's kernel: only packets write it, so
// it cannot be computed. It is nil where the agent was not asked.
func memoryOf(dump *agentapi.Dump, client netip.Addr) []ruleset.Remembered {
	if !slices.Contains(dump.Clients, client) {
		return nil
	}
	return append([]ruleset.Remembered{}, dump.Remembered...)
}

// stillServed leaves out endpoints that have left, which the agent makes the kernel forget.
func stillServed(memory []ruleset.Remembered, elements []ruleset.Element) []ruleset.Remembered {
	type served struct {
		share    uint32
		endpoint proxy.Endpoint
	}
	shares, serving := map[proxy.Key]uint32{}, map[served]bool{}
	for _, e := range elements {
		if e.Map == ruleset.AffinityShares {
			shares[e.Key] = e.Chain.N
		}
	}
	for _, e := range elements {
		if e.Map == ruleset.Endpoints || e.Map == ruleset.InsideEndpoints {
			serving[served{shares[e.Key], e.Endpoint}] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(memory), func(r ruleset.Remembered) bool { return !serving[served{r.Share, r.Endpoint}] })
}
