package plan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// RestoredService is the Service a ServiceGroup asks for, with the cluster IPs and numbers that it
// had wherever the spec leaves them open and the Service that exists, if one does, lost them: one
// deleted by accident, edited by hand, or made an ExternalName for a while comes back where its clients look
// for it. The second value reports whether anything was added.
func RestoredService(desired Desired, live *corev1.Service) (*corev1ac.ServiceApplyConfiguration, bool) {
	want, restored := Service(desired), false
	sg, had := desired.Group, desired.Had
	if ips := lostClusterIPs(live, sg, had); len(ips) > 0 {
		withClusterIPs(want.Spec, ips)
		restored = true
	}
	if number := lostHealthCheck(live, sg, had); number != 0 {
		want.Spec.WithHealthCheckNodePort(number)
		restored = true
	}
	lost := lostNodePorts(live, sg, had)
	for i := range want.Spec.Ports {
		port := &want.Spec.Ports[i]
		if number := lost[portNumber{*port.Port, *port.Protocol}]; number != 0 {
			port.WithNodePort(number)
			restored = true
		}
	}
	return want, restored
}

// lostNodePorts are the nodePorts that the entry point had and the spec leaves open, of the ports that have none
// any more, or one that somebody else brought about.
func lostNodePorts(live *corev1.Service, sg *v1alpha1.ServiceGroup, had Allocated) map[portNumber]int32 {
	lost := map[portNumber]int32{}
	if !GetsNodePorts(&sg.Spec) {
		return lost
	}
	asked := map[int32]bool{}
	for i := range sg.Spec.Ports {
		asked[sg.Spec.Ports[i].NodePort] = true
	}
	for i := range sg.Spec.Ports {
		port := portNumber{sg.Spec.Ports[i].Port, protocolOf(&sg.Spec.Ports[i])}
		number := had.nodePort(port)
		if sg.Spec.Ports[i].NodePort == 0 && !asked[number] && !hasNodePort(live, port, number) {
			lost[port] = number
		}
	}
	return lost
}

// hasNodePort reports whether a port of a Service has the nodePort that it had, or else one that the
// API server or we gave it since: what it had is recorded a moment after the Service is written, and
// may be out of date.
func hasNodePort(live *corev1.Service, port portNumber, remembered int32) bool {
	return remembered == 0 || live != nil && slices.ContainsFunc(live.Spec.Ports, func(p corev1.ServicePort) bool {
		return port == portNumber{p.Port, p.Protocol} && p.NodePort != 0 && (p.NodePort == remembered || !othersWrote(live, port))
	})
}

// lostClusterIPs are the virtual IPs to ask for if the Service has none, or not the second of two that the spec
// asks for.
func lostClusterIPs(live *corev1.Service, sg *v1alpha1.ServiceGroup, had Allocated) []string {
	ips := restorableClusterIPs(&sg.Spec, had)
	if live == nil || live.Spec.ClusterIP == "" {
		return ips
	}
	if sg.Spec.IPFamilyPolicy == nil || len(live.Spec.ClusterIPs) >= len(ips) || ips[0] != live.Spec.ClusterIP {
		return nil
	}
	return ips
}

// restorableClusterIPs are the virtual IPs to ask for where the spec leaves them open: as many of those that
// the entry point had as the spec has families, if they are what the spec does say.
func restorableClusterIPs(spec *v1alpha1.ServiceGroupSpec, had Allocated) []string {
	ips := had.ClusterIPs
	if !hasVIP(spec) {
		return nil
	}
	if len(ips) > 1 && !mayBeDual(spec) {
		ips = ips[:1]
	}
	wanted := wantedClusterIPs(spec)
	if len(wanted) >= len(ips) || !slices.Equal(wanted, ips[:len(wanted)]) {
		return nil
	}
	for i := range min(len(ips), len(spec.IPFamilies)) {
		if netutils.IsIPv6String(ips[i]) != (spec.IPFamilies[i] == corev1.IPv6Protocol) {
			return nil
		}
	}
	return ips
}

// mayBeDual says whether a spec lets the Service have two address families. One that says nothing of them
// does: a Service keeps the second when ipFamilyPolicy is removed, until that is SingleStack.
func mayBeDual(spec *v1alpha1.ServiceGroupSpec) bool {
	if spec.IPFamilyPolicy == nil {
		return len(spec.IPFamilies) != 1
	}
	return *spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack
}

// KeepSecondFamily is the ServiceGroup with the second address family and the second virtual IP of its
// Service where the spec names the first and leaves the second to the API server: that takes a list with
// the first alone for the wish to give the second up.
func KeepSecondFamily(sg *v1alpha1.ServiceGroup, live *corev1.Service) *v1alpha1.ServiceGroup {
	families, ips := sg.Spec.IPFamilies, wantedClusterIPs(&sg.Spec)
	hasFamilies, hasIPs := live.Spec.IPFamilies, live.Spec.ClusterIPs
	keepFamilies := len(families) == 1 && len(hasFamilies) == 2 && families[0] == hasFamilies[0]
	keepIPs := len(ips) == 1 && len(hasIPs) == 2 && ips[0] == hasIPs[0]
	if !mayBeDual(&sg.Spec) || !keepFamilies && !keepIPs {
		return sg
	}
	out := sg.DeepCopy()
	if keepFamilies {
		out.Spec.IPFamilies = slices.Clone(hasFamilies)
	}
	if keepIPs {
		out.Spec.ClusterIPs = slices.Clone(hasIPs)
	}
	return out
}

// lostHealthCheck is the healthCheckNodePort that the entry point had, if the spec leaves it open and the
// Service has none; 0 is none. The API server changes none that a Service has.
func lostHealthCheck(live *corev1.Service, sg *v1alpha1.ServiceGroup, had Allocated) int32 {
	if sg.Spec.HealthCheckNodePort != 0 || typeOf(&sg.Spec) != corev1.ServiceTypeLoadBalancer ||
		sg.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal ||
		live != nil && live.Spec.HealthCheckNodePort != 0 {
		return 0
	}
	return had.HealthCheckNodePort
}

// GetsNodePorts says whether ports that name no nodePort get one.
func GetsNodePorts(spec *v1alpha1.ServiceGroupSpec) bool {
	return getNodePorts(typeOf(spec), spec.AllocateLoadBalancerNodePorts)
}

func getNodePorts(kind corev1.ServiceType, allocate *bool) bool {
	return kind == corev1.ServiceTypeNodePort || kind == corev1.ServiceTypeLoadBalancer && ptr.Deref(allocate, true)
}
