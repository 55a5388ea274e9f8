package endpointslices

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
)

// endpoint is a pod as an endpoint of one family. Most are compared with what exists and never
// written, so it is small.
type endpoint struct {
	pod                         *corev1.Pod
	addresses                   []string
	hostname, zone              string
	ready, serving, terminating bool
	// hintZone and hintNode are empty without a hint.
	hintZone, hintNode string
	// placed reports whether it is in a slice already.
	placed bool
}

// endpointOf is a pod as an endpoint of one family; it has no address of another.
func (g *Group) endpointOf(pod *corev1.Pod, family discoveryv1.AddressType) endpoint {
	e := endpoint{
		pod: pod, addresses: addressesOf(pod, family), serving: isReady(pod), terminating: pod.DeletionTimestamp != nil,
	}
	e.ready = g.Service.Spec.PublishNotReadyAddresses || (e.serving && !e.terminating)
	if node := g.Nodes[pod.Spec.NodeName]; node != nil {
		e.zone = node.Labels[corev1.LabelTopologyZone]
	}
	if pod.Spec.Subdomain == g.Service.Name && pod.Namespace == g.Service.Namespace {
		e.hostname = pod.Spec.Hostname
	}
	if !e.ready {
		return e
	}
	switch ptr.Deref(g.Service.Spec.TrafficDistribution, "") {
	case corev1.ServiceTrafficDistributionPreferSameNode:
		e.hintZone, e.hintNode = e.zone, pod.Spec.NodeName
	case corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferClose:
		e.hintZone = e.zone
	}
	return e
}

// addressesOf are the addresses of a pod of one family, in the one form in which the API has them.
func addressesOf(pod *corev1.Pod, family discoveryv1.AddressType) []string {
	var addresses []string
	for _, ip := range pod.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil && addressType(addr) == family {
			addresses = append(addresses, addr.Unmap().String())
		}
	}
	slices.Sort(addresses)
	return addresses
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// podOf is the name of the pod that an endpoint of a slice is; empty if it is none.
func podOf(have *discoveryv1.Endpoint) string {
	if have.TargetRef == nil || have.TargetRef.Kind != "Pod" {
		return ""
	}
	return have.TargetRef.Name
}

// equals reports whether a slice has the endpoint as it is.
func (e *endpoint) equals(have *discoveryv1.Endpoint) bool {
	ref, conditions := have.TargetRef, &have.Conditions
	return slices.Equal(have.Addresses, e.addresses) &&
		is(conditions.Ready, e.ready) && is(conditions.Serving, e.serving) && is(conditions.Terminating, e.terminating) &&
		ref.Namespace == e.pod.Namespace && ref.UID == e.pod.UID && ref.APIVersion == "" && ref.FieldPath == "" &&
		says(have.NodeName, e.pod.Spec.NodeName) && says(have.Zone, e.zone) && says(have.Hostname, e.hostname) &&
		e.hintsEqual(have.Hints)
}

func (e *endpoint) hintsEqual(have *discoveryv1.EndpointHints) bool {
	if have == nil {
		return e.hintZone == "" && e.hintNode == ""
	}
	zones, nodes := e.hints()
	return slices.Equal(have.ForZones, zones) && slices.Equal(have.ForNodes, nodes)
}

func (e *endpoint) hints() (zones []discoveryv1.ForZone, nodes []discoveryv1.ForNode) {
	if e.hintZone != "" {
		zones = []discoveryv1.ForZone{{Name: e.hintZone}}
	}
	if e.hintNode != "" {
		nodes = []discoveryv1.ForNode{{Name: e.hintNode}}
	}
	return zones, nodes
}

func is(have *bool, want bool) bool { return have != nil && *have == want }

// says reports whether a text that is left out where it is empty is what it is to be.
func says(have *string, want string) bool {
	return (have == nil) == (want == "") && ptr.Deref(have, "") == want
}

// build makes the endpoint as a slice has it. It shares nothing with the pod, which is of a cache.
func (e *endpoint) build() discoveryv1.Endpoint {
	out := discoveryv1.Endpoint{
		Addresses: slices.Clone(e.addresses),
		Conditions: discoveryv1.EndpointConditions{
			Ready: ptr.To(e.ready), Serving: ptr.To(e.serving), Terminating: ptr.To(e.terminating),
		},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: e.pod.Namespace, Name: e.pod.Name, UID: e.pod.UID},
		NodeName:  textOrNil(e.pod.Spec.NodeName), Zone: textOrNil(e.zone), Hostname: textOrNil(e.hostname),
	}
	if zones, nodes := e.hints(); zones != nil || nodes != nil {
		out.Hints = &discoveryv1.EndpointHints{ForZones: zones, ForNodes: nodes}
	}
	return out
}

func textOrNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
