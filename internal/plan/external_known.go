package plan

import (
	"maps"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// Resolved is what is known of a name.
type Resolved struct {
	// Found says that the name was found at least once.
	Found bool
	// Addresses are the allowed ones of those it has, or had when it was found last.
	Addresses []netip.Addr
	// NotAllowed counts the others.
	NotAllowed int
	// Failure is why it cannot be looked up now; empty if it can.
	Failure string
	// Former says that Addresses are those that the group had before the name was its own: of Source, a
	// hostname or empty for a spec's.
	Former bool
	Source string
}

// Known are external addresses that EndpointSlices list: what is known of a group after a restart.
// Others may edit slices, so an address is worth no more than one that a user writes in a spec, and has
// to be allowed like that (ExternalOf).
type Known struct {
	// Source is the hostname that the addresses are of; empty for those of a spec.
	Source string
	// Serving says of each address whether it passed its health checks when the slice was written.
	Serving map[netip.Addr]bool
}

// KnownExternal is what the slices of a group list for a hostname (empty: for the spec's addresses). If
// none is for it, it is what they list for another one.
func KnownExternal(found []*discoveryv1.EndpointSlice, group, hostname string) Known {
	bySource := map[string]map[netip.Addr]bool{}
	for _, slice := range found {
		if slice.Labels[v1alpha1.LabelGroup] != group {
			continue
		}
		source, recorded := slice.Annotations[v1alpha1.AnnotationHostname]
		if !recorded { // written before there was the annotation
			source = hostname
		}
		addKnown(bySource, source, slice)
	}
	if serving, ok := bySource[hostname]; ok || len(bySource) == 0 {
		return Known{Source: hostname, Serving: serving}
	}
	source := slices.Min(slices.Collect(maps.Keys(bySource)))
	return Known{Source: source, Serving: bySource[source]}
}

func addKnown(bySource map[string]map[netip.Addr]bool, source string, slice *discoveryv1.EndpointSlice) {
	for i := range slice.Endpoints {
		endpoint := &slice.Endpoints[i]
		if endpoint.TargetRef != nil || len(endpoint.Addresses) == 0 {
			continue // a pod, of the time when the group had a selector
		}
		address, err := netip.ParseAddr(endpoint.Addresses[0])
		if err != nil {
			continue
		}
		if bySource[source] == nil {
			bySource[source] = map[netip.Addr]bool{}
		}
		bySource[source][address.Unmap()] = ptr.Deref(endpoint.Conditions.Serving, false)
	}
}

// Complete adds to a name that was not found yet what the slices say: the addresses that it had before a
// restart; and until its first lookup ends, those of the name that it takes the place of. No longer, as
// they are not its own.
func (k Known) Complete(hostname string, name Resolved) Resolved {
	if hostname == "" || name.Found || (k.Source != hostname && name.Failure != "") {
		return name
	}
	name.Addresses = slices.SortedFunc(maps.Keys(k.Serving), netip.Addr.Compare)
	name.Former, name.Source = k.Source != hostname, k.Source
	return name
}
