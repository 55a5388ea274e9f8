package plan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	netutils "k8s.io/utils/net"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// RestoredService is the Service a ServiceGroup asks for, with the cluster IPs and nodePorts that
// status remembers wherever the spec leaves them open: a Service deleted by accident, or made an
// ExternalName for a while, comes back where its clients look for it. The second value says whether status added anything.
func RestoredService(sg *v1alpha1.ServiceGroup) (*corev1ac.ServiceApplyConfiguration, bool) {
	want, restored := Service(sg), false
	if ips := restorableClusterIPs(sg); len(ips) > 0 {
		withClusterIPs(want.Spec, ips)
		restored = true
	}
	if restoreHealthCheck(want.Spec, sg) {
		restored = true
	}
	if !GetsNodePorts(&sg.Spec) {
		return want, restored
	}
	taken := map[int32]bool{}
	for i := range sg.Spec.Ports {
		taken[sg.Spec.Ports[i].NodePort] = true
	}
	for i := range want.Spec.Ports {
		port := &want.Spec.Ports[i]
		if number := rememberedNodePort(&sg.Status, *port.Port, *port.Protocol); port.NodePort == nil && number != 0 && !taken[number] {
			port.WithNodePort(number)
			restored = true
		}
	}
	return want, restored
}

// restorableClusterIPs are the virtual IPs to ask for where the spec leaves them open: as many of those that
// status remembers as the spec has families, if they are what the spec does say.
func restorableClusterIPs(sg *v1alpha1.ServiceGroup) []string {
	spec, ips := &sg.Spec, RememberedClusterIPs(&sg.Status)
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

// RememberedClusterIPs are the virtual IPs that the entry point has, or had before it became an
// ExternalName.
func RememberedClusterIPs(status *v1alpha1.ServiceGroupStatus) []string {
	ips := status.ClusterIPs
	if len(ips) == 0 {
		ips = status.FormerClusterIPs
	}
	if len(ips) > 0 && ips[0] == corev1.ClusterIPNone {
		return nil
	}
	return ips
}

func restoreHealthCheck(want *corev1ac.ServiceSpecApplyConfiguration, sg *v1alpha1.ServiceGroup) bool {
	number := sg.Status.HealthCheckNodePort
	if number == 0 || sg.Spec.HealthCheckNodePort != 0 || typeOf(&sg.Spec) != corev1.ServiceTypeLoadBalancer ||
		sg.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		return false
	}
	want.WithHealthCheckNodePort(number)
	return true
}

// GetsNodePorts says whether ports that name no nodePort get one.
func GetsNodePorts(spec *v1alpha1.ServiceGroupSpec) bool {
	switch typeOf(spec) {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return spec.AllocateLoadBalancerNodePorts == nil || *spec.AllocateLoadBalancerNodePorts
	}
	return false
}

// RememberedPorts are the ports that the entry point has, or had before it became an ExternalName.
func RememberedPorts(status *v1alpha1.ServiceGroupStatus) []v1alpha1.PortStatus {
	if len(status.Ports) == 0 {
		return status.FormerPorts
	}
	return status.Ports
}

func rememberedNodePort(status *v1alpha1.ServiceGroupStatus, number int32, protocol corev1.Protocol) int32 {
	for _, p := range RememberedPorts(status) {
		if p.Port == number && p.Protocol == protocol {
			return p.NodePort
		}
	}
	return 0
}
