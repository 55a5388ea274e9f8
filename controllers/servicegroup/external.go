package servicegroup

import (
	"context"
	"net/netip"
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
	lookups := r.prober.Names(key, r.wantedNames(entry))
	out := map[string]plan.External{}
	targets, begin := map[string]map[netip.Addr]probe.Target{}, map[probe.Target]bool{}
	for i := range entry.Groups {
		group := &entry.Groups[i]
		if group.External == nil {
			continue
		}
		hostname := group.External.Hostname
		known := plan.KnownExternal(found, group.Name, hostname)
		name := known.Complete(hostname, resolved(lookups[hostname]))
		external := plan.ExternalOf(group.External, svc, name, r.options.ExternalRanges)
		out[group.Name] = external
		targets[group.Name] = targetsOf(group, external, entry)
		for address, target := range targets[group.Name] {
			begin[target] = begin[target] || known.Serving[address]
		}
	}
	ready := r.prober.Targets(key, begin)
	for name, external := range out {
		for i := range external.Endpoints {
			endpoint := &external.Endpoints[i]
			target, checked := targets[name][endpoint.Address]
			endpoint.Ready = !checked || ready[target]
		}
	}
	return out
}

// wantedNames are the names to look up. Where no address may be served there is no reason to: whoever may
// write a ServiceGroup could have the manager ask for any name.
func (r *Reconciler) wantedNames(entry plan.EntryPoint) []string {
	if len(r.options.ExternalRanges) == 0 {
		return nil
	}
	return entry.Hostnames()
}

func resolved(lookup probe.Lookup) plan.Resolved {
	return plan.Resolved{Found: lookup.Found, Addresses: lookup.Addresses, NotAllowed: lookup.NotAllowed, Failure: lookup.Failure}
}

// targetsOf are the targets that the addresses of a group have to pass to be ready.
func targetsOf(group *plan.Group, external plan.External, entry plan.EntryPoint) map[netip.Addr]probe.Target {
	port, ok := entry.CheckedPort(group)
	if !ok {
		return nil
	}
	check := plan.HealthCheckOf(group.External)
	target := probe.Target{
		Period:           time.Duration(check.PeriodSeconds) * time.Second,
		Timeout:          time.Duration(check.TimeoutSeconds) * time.Second,
		SuccessThreshold: int(check.SuccessThreshold),
		FailureThreshold: int(check.FailureThreshold),
	}
	if check.HTTP != nil {
		target.HTTP, target.Path, target.Host = true, check.HTTP.Path, check.HTTP.Host
	}
	out := make(map[netip.Addr]probe.Target, len(external.Endpoints))
	for _, endpoint := range external.Endpoints {
		target.Address = netip.AddrPortFrom(endpoint.Address, port)
		out[endpoint.Address] = target
	}
	return out
}
