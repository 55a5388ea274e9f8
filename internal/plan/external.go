package plan

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan/endpointslices"
)

// maxExternal is how many addresses of an external group are served, so that one EndpointSlice holds
// those of a family. The schema allows as many; a name may have more.
const maxExternal = endpointslices.MaxEndpoints

// External is what an external group leads to.
type External struct {
	// Endpoints are the addresses to serve, in order.
	Endpoints []ExternalEndpoint
	// NotAllowed are the addresses of the spec that the administrator does not allow, or nobody may; in
	// order.
	NotAllowed []netip.Addr
	// AnswersNotAllowed counts those of the hostname. Which they are is told to nobody: a name may be of
	// a network that the user does not see.
	AnswersNotAllowed int
	// OtherFamily counts those of a family that the Service does not have, Surplus those that are too
	// many.
	OtherFamily, Surplus int
	// Hostname is the name of the spec; empty if the spec has addresses.
	Hostname string
	// Source is the name that Endpoints are of: Hostname, or what it takes the place of until its first
	// lookup ends; empty for addresses of a spec.
	Source string
	// NoRanges says that there is a Hostname and no address is allowed, so that nobody looks it up.
	NoRanges bool
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

// ExternalOf sorts the addresses of an external group, all ready: into those to serve and those to leave
// out. The name is what is known of its hostname, if it has one.
func ExternalOf(external *v1alpha1.External, svc *corev1.Service, name Resolved, allowed []netip.Prefix) External {
	out := External{Hostname: external.Hostname, Source: external.Hostname, AnswersNotAllowed: name.NotAllowed}
	switch {
	case external.Hostname == "":
	case len(allowed) == 0:
		out.NoRanges = true
	default:
		out.Failure, out.Pending = name.Failure, !name.Found && name.Failure == ""
		if name.Former {
			out.Source = name.Source
		}
	}
	for _, address := range externalAddresses(external, name) {
		switch {
		case !AllowedExternal(address, allowed):
			if external.Hostname == "" {
				out.NotAllowed = append(out.NotAllowed, address)
			}
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

// AllowedExternal says whether an address may be served as an endpoint. Whoever may write endpoints of
// any address reaches through the virtual IP what a NetworkPolicy keeps from him (CVE-2021-25740), so it
// is the administrator who says which.
func AllowedExternal(address netip.Addr, allowed []netip.Prefix) bool {
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
	return int32(len(e.NotAllowed) + e.AnswersNotAllowed + e.OtherFamily + e.Surplus)
}

func (e *External) ready() (n int32) {
	for _, endpoint := range e.Endpoints {
		if endpoint.Ready {
			n++
		}
	}
	return n
}
