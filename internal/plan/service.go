package plan

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// Service is the Service a ServiceGroup asks for, for a server-side apply. It names only what the
// user set and what we need: addresses, families and nodePorts that the API server chose stay the
// API server's, so that applying it again never fights over them.
func Service(sg *v1alpha1.ServiceGroup) *corev1ac.ServiceApplyConfiguration {
	return corev1ac.Service(sg.Name, sg.Namespace).
		WithLabels(map[string]string{v1alpha1.LabelServiceProxyName: v1alpha1.ServiceProxyName}).
		WithAnnotations(map[string]string{v1alpha1.AnnotationServed: ServedOf(&sg.Spec).encode()}).
		WithOwnerReferences(metav1ac.OwnerReference().
			WithAPIVersion(v1alpha1.GroupVersion.String()).WithKind(kindServiceGroup).
			WithName(sg.Name).WithUID(sg.UID).
			WithController(true).WithBlockOwnerDeletion(true)).
		WithSpec(serviceSpec(&sg.Spec))
}

func serviceSpec(spec *v1alpha1.ServiceGroupSpec) *corev1ac.ServiceSpecApplyConfiguration {
	out := corev1ac.ServiceSpec().WithType(typeOf(spec)).WithSessionAffinity(corev1.ServiceAffinityNone)
	for i := range spec.Ports {
		out.WithPorts(servicePort(&spec.Ports[i]))
	}
	if spec.SessionAffinity != "" {
		out.WithSessionAffinity(spec.SessionAffinity)
	}
	if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		out.WithSessionAffinityConfig(corev1ac.SessionAffinityConfig().
			WithClientIP(corev1ac.ClientIPConfig().WithTimeoutSeconds(*c.ClientIP.TimeoutSeconds)))
	}
	if spec.ExternalTrafficPolicy != "" {
		out.WithExternalTrafficPolicy(spec.ExternalTrafficPolicy)
	}
	if spec.InternalTrafficPolicy != nil {
		out.WithInternalTrafficPolicy(*spec.InternalTrafficPolicy)
	}
	if spec.IPFamilyPolicy != nil {
		out.WithIPFamilyPolicy(*spec.IPFamilyPolicy)
	}
	out.WithIPFamilies(spec.IPFamilies...)
	withClusterIPs(out, wantedClusterIPs(spec))
	return out
}

// withClusterIPs sets both fields: the API server refuses clusterIPs without clusterIP.
func withClusterIPs(out *corev1ac.ServiceSpecApplyConfiguration, ips []string) {
	if len(ips) > 0 {
		out.WithClusterIP(ips[0]).WithClusterIPs(ips...)
	}
}

func wantedClusterIPs(spec *v1alpha1.ServiceGroupSpec) []string {
	if len(spec.ClusterIPs) == 0 && spec.ClusterIP != "" {
		return []string{spec.ClusterIP}
	}
	return spec.ClusterIPs
}

func servicePort(port *v1alpha1.Port) *corev1ac.ServicePortApplyConfiguration {
	target := intstr.FromInt32(port.Port)
	if port.TargetPort != nil {
		target = *port.TargetPort
	}
	out := corev1ac.ServicePort().WithProtocol(protocolOf(port)).WithPort(port.Port).WithTargetPort(target)
	if port.Name != "" {
		out.WithName(port.Name)
	}
	if port.AppProtocol != nil {
		out.WithAppProtocol(*port.AppProtocol)
	}
	if port.NodePort != 0 {
		out.WithNodePort(port.NodePort)
	}
	return out
}

// RestoredService is the Service a ServiceGroup asks for, with the cluster IPs and nodePorts that
// status remembers wherever the spec leaves them open: a Service deleted by accident comes back
// where its clients look for it. The second value says whether status added anything.
func RestoredService(sg *v1alpha1.ServiceGroup) (*corev1ac.ServiceApplyConfiguration, bool) {
	want, restored := Service(sg), false
	if len(wantedClusterIPs(&sg.Spec)) == 0 && len(sg.Spec.IPFamilies) == 0 && len(sg.Status.ClusterIPs) > 0 {
		withClusterIPs(want.Spec, sg.Status.ClusterIPs)
		restored = true
	}
	if typeOf(&sg.Spec) == corev1.ServiceTypeClusterIP {
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

func rememberedNodePort(status *v1alpha1.ServiceGroupStatus, number int32, protocol corev1.Protocol) int32 {
	for _, p := range status.Ports {
		if p.Port == number && p.Protocol == protocol {
			return p.NodePort
		}
	}
	return 0
}

func typeOf(spec *v1alpha1.ServiceGroupSpec) corev1.ServiceType {
	if spec.Type == "" {
		return corev1.ServiceTypeClusterIP
	}
	return spec.Type
}
