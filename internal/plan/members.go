package plan

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Nodes are the nodes that exist, by name.
type Nodes map[string]*corev1.Node

// Observed is what was seen of what is behind a Service.
type Observed struct {
	// Pods are those of the namespace, Nodes those that they are on.
	Pods  []*corev1.Pod
	Nodes Nodes
	// External are the external groups, by name.
	External map[string]External
}

// Membership is a group with the pods it selects, or the external addresses it has.
type Membership struct {
	// Group is the group's name.
	Group string
	// Pods are those that become endpoints, by name. They are shared with the caller's pods.
	Pods []*corev1.Pod
	// External is what the group has in place of pods; nil for one of pods.
	External *External
	// Matched counts the pods the selector matches that have an address and have not finished, or
	// all addresses.
	Matched int32
	// Ready counts those of Pods that are ready and not terminating, or the ready addresses.
	Ready int32
	// LeftOut counts the matched pods with an address that the API server refuses in an
	// EndpointSlice: one of them would cost all the others of its slice; and OtherFamily. Or the addresses
	// not served.
	LeftOut int32
	// OtherFamily counts the matched pods that have no address of a family of the Service.
	OtherFamily int32
}

// Members computes the members of every group of what a Service serves, in the order of the groups.
// A pod on a node that does not exist is no endpoint, as in core: it is what a deleted node leaves
// behind. With publishNotReadyAddresses it is one all the same.
func Members(svc *corev1.Service, entry EntryPoint, observed Observed) []Membership {
	sorted := slices.SortedFunc(slices.Values(observed.Pods), func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	members := make([]Membership, len(entry.Groups))
	for i := range members {
		members[i].Group = entry.Groups[i].Name
		if entry.Groups[i].External != nil {
			members[i].addExternal(observed.External[members[i].Group])
		}
	}
	groups := groupsByAnchor(entry.Groups)
	for _, pod := range sorted {
		if !Eligible(pod) {
			continue
		}
		for a := range AnchorsIn(pod.Labels) {
			for _, i := range groups[a] { // each at most once: all its anchors have one key
				members[i].add(pod, StandingOf(svc, entry.Groups[i].Selects, pod, observed.Nodes))
			}
		}
	}
	return members
}

// MembersOf are the members of the groups of a part of what is served.
func MembersOf(entry EntryPoint, members []Membership) []Membership {
	return slices.DeleteFunc(slices.Clone(members), func(m Membership) bool { return !entry.has(m.Group) })
}

func (m *Membership) add(pod *corev1.Pod, standing Standing) {
	if standing == NotSelected {
		return
	}
	m.Matched++
	switch standing {
	case BadAddress:
		m.LeftOut++
	case NoFamily:
		m.LeftOut++
		m.OtherFamily++
	case Serving:
		m.Ready++
		m.Pods = append(m.Pods, pod)
	case Terminating, NotReady:
		m.Pods = append(m.Pods, pod)
	default: // it is on no node
	}
}

func (m *Membership) addExternal(external External) {
	m.External, m.Ready, m.LeftOut = &external, external.ready(), external.left()
	m.Matched = int32(len(external.Endpoints)) + m.LeftOut
}

// Eligible says whether a pod can be an endpoint at all: it has an address and has not finished.
func Eligible(pod *corev1.Pod) bool {
	return len(pod.Status.PodIPs) > 0 && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// Ready says whether a pod takes new connections.
func Ready(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && ReadyCondition(pod)
}

// ReadyCondition says whether the pod's condition Ready is true, also while it terminates.
func ReadyCondition(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// routable says whether the API server takes all addresses of a pod in an EndpointSlice.
func routable(pod *corev1.Pod) bool {
	return !slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool {
		addr, err := netip.ParseAddr(ip.IP)
		return err != nil || !addressable(addr.Unmap())
	})
}

// hasFamily says whether one of a pod's addresses is of a family that the Service has. One without families,
// as before the API server has seen it, has any.
func hasFamily(svc *corev1.Service, pod *corev1.Pod) bool {
	return len(svc.Spec.IPFamilies) == 0 || slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool {
		addr, err := netip.ParseAddr(ip.IP)
		return err == nil && slices.Contains(svc.Spec.IPFamilies, familyOf(addr.Unmap()))
	})
}

// addressable says whether the API server takes an address in an EndpointSlice. It refuses unspecified,
// loopback, link-local and multicast ones (ValidateEndpointIP), since endpoints of such addresses would
// reach the node itself (CVE-2021-25737).
func addressable(addr netip.Addr) bool {
	return !(addr.IsUnspecified() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsMulticast())
}
