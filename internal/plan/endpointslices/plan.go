package endpointslices

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// MaxEndpoints is the size of an EndpointSlice, the default of kube-controller-manager
// (--max-endpoints-per-slice).
const MaxEndpoints = 100

// Group is a group of pods behind a Service.
type Group struct {
	// Service is the synthetic one of the group: its labels and ports are those of the slices.
	Service *corev1.Service
	Pods    []*corev1.Pod
	// Nodes are the nodes that exist, by name.
	Nodes map[string]*corev1.Node
	// Existing are the slices of the group. Those pending deletion are left out: they are replaced at
	// once, since a finalizer may hold them for any time.
	Existing []*discoveryv1.EndpointSlice
	// Trigger is when the change happened that makes the slices change, as the API writes times; empty
	// if that is not known.
	Trigger string
}

// Changes are the changes to some EndpointSlices, and the result.
type Changes struct {
	Create []*discoveryv1.EndpointSlice
	Update []*discoveryv1.EndpointSlice
	Delete []*discoveryv1.EndpointSlice
	// Final are all slices as they will be, of a group by name.
	Final []*discoveryv1.EndpointSlice
}

// Empty reports whether there is nothing to change.
func (c *Changes) Empty() bool { return len(c.Create)+len(c.Update)+len(c.Delete) == 0 }

// Add adds the changes to other EndpointSlices.
func (c *Changes) Add(other Changes) {
	c.Create = append(c.Create, other.Create...)
	c.Update = append(c.Update, other.Update...)
	c.Delete = append(c.Delete, other.Delete...)
	c.Final = append(c.Final, other.Final...)
}

// Plan computes the changes to the EndpointSlices of a group.
func Plan(g *Group) Changes {
	families := addressTypes(g.Service)
	existing := map[discoveryv1.AddressType][]*discoveryv1.EndpointSlice{}
	var out Changes
	for _, slice := range byName(g.Existing) {
		switch {
		case slice.DeletionTimestamp != nil:
		case !slices.Contains(families, slice.AddressType), !ownedBy(slice, g.Service):
			out.Delete = append(out.Delete, slice)
		default:
			existing[slice.AddressType] = append(existing[slice.AddressType], slice)
		}
	}
	sets := portSets(g)
	for _, family := range families {
		p := newPacker(g, family)
		out.Add(p.pack(sets, existing[family]))
	}
	out.Final = byName(out.Final)
	return out
}

// byName are objects in the order of their names.
func byName[T interface{ GetName() string }](objects []T) []T {
	compare := func(a, b T) int { return cmp.Compare(a.GetName(), b.GetName()) }
	if slices.IsSortedFunc(objects, compare) {
		return objects
	}
	return slices.SortedStableFunc(slices.Values(objects), compare)
}

// addressTypes are the types of slices that a Service has. One without families has that of its
// address, or both.
func addressTypes(svc *corev1.Service) []discoveryv1.AddressType {
	var types []discoveryv1.AddressType
	for _, family := range svc.Spec.IPFamilies {
		if !slices.Contains(types, discoveryv1.AddressType(family)) {
			types = append(types, discoveryv1.AddressType(family))
		}
	}
	if len(types) > 0 {
		return types
	}
	if addr, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil {
		return []discoveryv1.AddressType{addressType(addr)}
	}
	return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}
}

func addressType(addr netip.Addr) discoveryv1.AddressType {
	if addr.Unmap().Is4() {
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

// ownedBy reports whether a slice belongs to the Service, and not to an earlier one of its name.
func ownedBy(slice *discoveryv1.EndpointSlice, svc *corev1.Service) bool {
	for _, owner := range slice.OwnerReferences {
		if owner.UID == svc.UID && owner.Kind == "Service" && owner.APIVersion == "v1" {
			return true
		}
	}
	return false
}
