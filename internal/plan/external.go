package plan

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// maxExternal is how many addresses of an external group are served, so that one EndpointSlice holds
// those of a family. The schema allows as many; a name may have more.
const maxExternal = MaxEndpointsPerSlice

// External is what an external group leads to.
type External struct {
	// Endpoints are the addresses to serve, in order.
	Endpoints []ExternalEndpoint
	// NotAllowed are those that the administrator does not allow, or nobody may; in order.
	NotAllowed []netip.Addr
	// OtherFamily counts those of a family that the Service does not have, Surplus those that are too
	// many.
	OtherFamily, Surplus int
	// Hostname is the name that the addresses are of; empty if the spec has them.
	Hostname string
	// Failure is why the name cannot be looked up; empty if it can.
	Failure string
	// Pending says that the name was not looked up yet.
	Pending bool
}

// ExternalEndpoint is an address outside the cluster.
type ExternalEndpoint struct {
	Address netip.Addr
	// Ready says that it passes its health checks.
	Ready bool
}

// Resolved is what is known of a name.
type Resolved struct {
	// Addresses are those it has, or had when it was found last.
	Addresses []netip.Addr
	// Failure is why it cannot be looked up now; empty if it can.
	Failure string
	// Pending says that it was not looked up yet.
	Pending bool
}

// ExternalOf sorts the addresses of an external group, all ready: into those to serve and those to leave
// out. The name is what is known of its hostname, if it has one.
func ExternalOf(external *v1alpha1.External, svc *corev1.Service, name Resolved, allowed []netip.Prefix) External {
	out := External{Hostname: external.Hostname, Failure: name.Failure, Pending: name.Pending}
	for _, address := range externalAddresses(external, name) {
		switch {
		case !allowedExternal(address, allowed):
			out.NotAllowed = append(out.NotAllowed, address)
		case !slices.Contains(svc.Spec.IPFamilies, familyOf(address)):
			out.OtherFamily++
		case len(out.Endpoints) == maxExternal:
			out.Surplus++
		default:
			out.Endpoints = append(out.Endpoints, ExternalEndpoint{Address: address, Ready: true})
		}
	}
	return out
}

// externalAddresses are all addresses of a group, in order and each once.
func externalAddresses(external *v1alpha1.External, name Resolved) []netip.Addr {
	addresses := make([]netip.Addr, 0, len(name.Addresses)+len(external.Addresses))
	for _, address := range name.Addresses {
		addresses = append(addresses, address.Unmap())
	}
	for _, text := range external.Addresses {
		if address, err := netip.ParseAddr(text); err == nil { // as the schema says
			addresses = append(addresses, address.Unmap())
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses)
}

// allowedExternal says whether an address may be served as an endpoint. Whoever may write endpoints of
// any address reaches through the virtual IP what a NetworkPolicy keeps from him (CVE-2021-25740), so it
// is the administrator who says which.
func allowedExternal(address netip.Addr, allowed []netip.Prefix) bool {
	return addressable(address) && slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(address) })
}

func familyOf(address netip.Addr) corev1.IPFamily {
	if address.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// left counts the addresses that are not served.
func (e *External) left() int32 {
	return int32(len(e.NotAllowed) + e.OtherFamily + e.Surplus)
}

func (e *External) ready() (n int32) {
	for _, endpoint := range e.Endpoints {
		if endpoint.Ready {
			n++
		}
	}
	return n
}

// CheckedPorts are the ports at which the health check of an external group checks every address, in
// order and each once.
func (e EntryPoint) CheckedPorts(group *Group) []uint16 {
	check := group.External.HealthCheck
	if check == nil {
		return nil
	}
	if check.Port != 0 {
		return []uint16{uint16(check.Port)}
	}
	var ports []uint16
	for i := range e.Ports {
		target, ok := e.Ports[i].Target(group.Name)
		if ok && e.Ports[i].Protocol == corev1.ProtocolTCP {
			ports = append(ports, uint16(target.IntVal))
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// KnownExternal are the external addresses that the EndpointSlices of a group list, and whether each
// passed its health checks when they were written: what is known of the group after a restart.
func KnownExternal(found []*discoveryv1.EndpointSlice, group string) map[netip.Addr]bool {
	known := map[netip.Addr]bool{}
	for _, slice := range found {
		if slice.Labels[v1alpha1.LabelGroup] != group {
			continue
		}
		for i := range slice.Endpoints {
			endpoint := &slice.Endpoints[i]
			if endpoint.TargetRef != nil || len(endpoint.Addresses) == 0 {
				continue // a pod, of the time when the group had a selector
			}
			if address, err := netip.ParseAddr(endpoint.Addresses[0]); err == nil {
				known[address] = ptr.Deref(endpoint.Conditions.Serving, false)
			}
		}
	}
	return known
}
