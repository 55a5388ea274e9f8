package servicegroup

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/servicegroup-dev/servicegroup/internal/plan"
	"github.com/servicegroup-dev/servicegroup/internal/probe"
)

// probeSource wakes a ServiceGroup when something about its external addresses changed. The prober
// starts and ends with the controller, so only the leader looks names up and checks addresses.
func probeSource(prober *probe.Prober) source.Source {
	return source.Func(func(ctx context.Context, q queue) error {
		prober.Start(ctx, func(key types.NamespacedName) { enqueue(q, key) })
		return nil
	})
}

// observeExternal returns what the external groups lead to, and goes on watching that. What the slices
// found say counts as known until names are looked up and addresses are checked: a restarted manager
// takes nothing out of service that it knows nothing bad about.
func (r *Reconciler) observeExternal(key types.NamespacedName, svc *corev1.Service, entry plan.EntryPoint, found []*discoveryv1.EndpointSlice) map[string]plan.External {
	lookups := r.prober.Names(key, entry.Hostnames())
	out := map[string]plan.External{}
	targets, begin := map[string]addressTargets{}, map[probe.Target]bool{}
	for i := range entry.Groups {
		group := &entry.Groups[i]
		if group.External == nil {
			continue
		}
		known := plan.KnownExternal(found, group.Name)
		external := plan.ExternalOf(group.External, svc, resolved(group.External.Hostname, lookups, known), r.options.ExternalRanges)
		out[group.Name] = external
		targets[group.Name] = targetsOf(group, external, entry.CheckedPorts(group))
		for address, checks := range targets[group.Name] {
			for _, target := range checks {
				begin[target] = begin[target] || known[address]
			}
		}
	}
	ready := r.prober.Targets(key, begin)
	for name, external := range out {
		for i := range external.Endpoints {
			endpoint := &external.Endpoints[i]
			endpoint.Ready = !slices.ContainsFunc(targets[name][endpoint.Address], func(t probe.Target) bool { return !ready[t] })
		}
	}
	return out
}

// resolved is what is known of a name: from its lookups, and before one succeeded from the slices.
func resolved(name string, lookups map[string]probe.Lookup, known map[netip.Addr]bool) plan.Resolved {
	lookup := lookups[name]
	if name != "" && !lookup.Found {
		lookup.Addresses = slices.Collect(maps.Keys(known))
	}
	return plan.Resolved{
		Addresses: lookup.Addresses, Failure: lookup.Failure,
		Pending: name != "" && !lookup.Found && lookup.Failure == "",
	}
}

// addressTargets are the targets that an address has to pass to be ready.
type addressTargets map[netip.Addr][]probe.Target

func targetsOf(group *plan.Group, external plan.External, ports []uint16) addressTargets {
	out := addressTargets{}
	check := group.External.HealthCheck
	if check == nil {
		return out
	}
	// The API server fills in the defaults; they are here for who does without it.
	target := probe.Target{
		Period:           time.Duration(cmp.Or(check.PeriodSeconds, 10)) * time.Second,
		Timeout:          time.Duration(cmp.Or(check.TimeoutSeconds, 1)) * time.Second,
		SuccessThreshold: int(cmp.Or(check.SuccessThreshold, 1)),
		FailureThreshold: int(cmp.Or(check.FailureThreshold, 3)),
	}
	if check.HTTP != nil {
		target.HTTP, target.Path = true, check.HTTP.Path
		target.Host = cmp.Or(check.HTTP.Host, strings.TrimSuffix(group.External.Hostname, "."))
	}
	for _, endpoint := range external.Endpoints {
		for _, port := range ports {
			target.Address = netip.AddrPortFrom(endpoint.Address, port)
			out[endpoint.Address] = append(out[endpoint.Address], target)
		}
	}
	return out
}
