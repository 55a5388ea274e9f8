package plan

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// Desired is what a Service is made from.
type Desired struct {
	// Group is the ServiceGroup, with the spec to serve.
	Group *v1alpha1.ServiceGroup
	// Revision is the name of the ControllerRevision that holds the spec, or will.
	Revision string
	// Had are the addresses and numbers that the entry point had.
	Had Allocated
}

// Service is the Service a ServiceGroup asks for, for a server-side apply. It names only what the
// user set and what we need: addresses, families and nodePorts that the API server chose stay the
// API server's, so that applying it again never fights over them.
func Service(want Desired) *corev1ac.ServiceApplyConfiguration {
	sg := want.Group
	return corev1ac.Service(sg.Name, sg.Namespace).
		WithLabels(serviceLabels(sg)).
		WithAnnotations(serviceAnnotations(want)).
		WithOwnerReferences(ownerOf(sg)).
		WithSpec(serviceSpec(&sg.Spec))
}

func ownerOf(sg *v1alpha1.ServiceGroup) *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(v1alpha1.GroupVersion.String()).WithKind(kindServiceGroup).
		WithName(sg.Name).WithUID(sg.UID).
		WithController(true).WithBlockOwnerDeletion(true)
}

func serviceLabels(sg *v1alpha1.ServiceGroup) map[string]string {
	out := map[string]string{}
	if meta := sg.Spec.ServiceMetadata; meta != nil {
		maps.Copy(out, meta.Labels)
	}
	out[v1alpha1.LabelServiceGroup] = sg.Name
	if agentServes(&sg.Spec) {
		out[v1alpha1.LabelServiceProxyName] = v1alpha1.ServiceProxyName
	}
	return out
}

// agentServes says whether there is anything that the node agents are to serve. What has no virtual
// IP is not handed to them: they would only have to watch it.
func agentServes(spec *v1alpha1.ServiceGroupSpec) bool {
	return hasVIP(spec) && spec.Dataplane != v1alpha1.DataplaneCluster
}

// HandedToAgents says whether a generated Service is handed to the node agents.
func HandedToAgents(svc *corev1.Service) bool {
	return svc.Labels[v1alpha1.LabelServiceProxyName] == v1alpha1.ServiceProxyName
}

func serviceAnnotations(want Desired) map[string]string {
	out := map[string]string{}
	if meta := want.Group.Spec.ServiceMetadata; meta != nil {
		maps.Copy(out, meta.Annotations)
	}
	out[v1alpha1.AnnotationRevision] = want.Revision
	return out
}

func serviceSpec(spec *v1alpha1.ServiceGroupSpec) *corev1ac.ServiceSpecApplyConfiguration {
	out := corev1ac.ServiceSpec().WithType(typeOf(spec))
	if isExternalName(spec) {
		return out.WithExternalName(spec.ExternalName).WithSessionAffinity(corev1.ServiceAffinityNone)
	}
	for i := range spec.Ports {
		out.WithPorts(servicePort(&spec.Ports[i]))
	}
	if spec.PublishNotReadyAddresses {
		// An explicit false would not come back from the API server, and look like a difference.
		out.WithPublishNotReadyAddresses(true)
	}
	withAffinity(out, spec)
	withPolicies(out, spec)
	withFamilies(out, spec)
	withLoadBalancer(out, spec)
	return out
}

func withAffinity(out *corev1ac.ServiceSpecApplyConfiguration, spec *v1alpha1.ServiceGroupSpec) {
	out.WithSessionAffinity(corev1.ServiceAffinityNone)
	if spec.SessionAffinity != "" {
		out.WithSessionAffinity(spec.SessionAffinity)
	}
	if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		out.WithSessionAffinityConfig(corev1ac.SessionAffinityConfig().
			WithClientIP(corev1ac.ClientIPConfig().WithTimeoutSeconds(*c.ClientIP.TimeoutSeconds)))
	}
}

func withPolicies(out *corev1ac.ServiceSpecApplyConfiguration, spec *v1alpha1.ServiceGroupSpec) {
	if spec.ExternalTrafficPolicy != "" {
		out.WithExternalTrafficPolicy(spec.ExternalTrafficPolicy)
	}
	if spec.InternalTrafficPolicy != nil {
		out.WithInternalTrafficPolicy(*spec.InternalTrafficPolicy)
	}
	if spec.TrafficDistribution != nil {
		out.WithTrafficDistribution(*spec.TrafficDistribution)
	}
}

func withFamilies(out *corev1ac.ServiceSpecApplyConfiguration, spec *v1alpha1.ServiceGroupSpec) {
	switch {
	case spec.IPFamilyPolicy != nil:
		out.WithIPFamilyPolicy(*spec.IPFamilyPolicy)
	case isHeadless(spec) && len(spec.IPFamilies) < 2:
		// The API server takes a headless Service without a selector for one whose endpoints somebody
		// writes by hand in whatever family, and would choose both; one with a selector has one.
		out.WithIPFamilyPolicy(corev1.IPFamilyPolicySingleStack)
	}
	out.WithIPFamilies(spec.IPFamilies...)
	withClusterIPs(out, wantedClusterIPs(spec))
}

func withLoadBalancer(out *corev1ac.ServiceSpecApplyConfiguration, spec *v1alpha1.ServiceGroupSpec) {
	if spec.LoadBalancerClass != nil {
		out.WithLoadBalancerClass(*spec.LoadBalancerClass)
	}
	out.WithLoadBalancerSourceRanges(spec.LoadBalancerSourceRanges...)
	if spec.AllocateLoadBalancerNodePorts != nil {
		out.WithAllocateLoadBalancerNodePorts(*spec.AllocateLoadBalancerNodePorts)
	}
	if spec.HealthCheckNodePort != 0 {
		out.WithHealthCheckNodePort(spec.HealthCheckNodePort)
	}
}

// withClusterIPs sets both fields: the API server refuses clusterIPs without clusterIP.
func withClusterIPs(out *corev1ac.ServiceSpecApplyConfiguration, ips []string) {
	if len(ips) > 0 {
		out.ClusterIPs = nil // With adds to a list
		out.WithClusterIP(ips[0]).WithClusterIPs(ips...)
	}
}

func wantedClusterIPs(spec *v1alpha1.ServiceGroupSpec) []string {
	if len(spec.ClusterIPs) == 0 && spec.ClusterIP != "" {
		return []string{spec.ClusterIP}
	}
	return spec.ClusterIPs
}

// isHeadless says whether a spec asks for no virtual IP.
func isHeadless(spec *v1alpha1.ServiceGroupSpec) bool {
	ips := wantedClusterIPs(spec)
	return len(ips) > 0 && ips[0] == corev1.ClusterIPNone
}

func isExternalName(spec *v1alpha1.ServiceGroupSpec) bool {
	return spec.Type == corev1.ServiceTypeExternalName
}

func hasVIP(spec *v1alpha1.ServiceGroupSpec) bool { return !isHeadless(spec) && !isExternalName(spec) }

func servicePort(port *v1alpha1.Port) *corev1ac.ServicePortApplyConfiguration {
	out := corev1ac.ServicePort().WithProtocol(protocolOf(port)).WithPort(port.Port).WithTargetPort(targetPortOf(port))
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

func typeOf(spec *v1alpha1.ServiceGroupSpec) corev1.ServiceType {
	if spec.Type == "" {
		return corev1.ServiceTypeClusterIP
	}
	return spec.Type
}
