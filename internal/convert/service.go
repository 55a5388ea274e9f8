package convert

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// maxGroupName is how long the name of a group may be (api/v1alpha1).
const maxGroupName = 50

// Result is a ServiceGroup and what to know before applying it.
type Result struct {
	Group *v1alpha1.ServiceGroup
	// Warnings are sentences that begin with the field of the Service they are about.
	Warnings []string
}

// ErrNoSelector says that a Service has no selector, so that there is no group to make of it.
var ErrNoSelector = errors.New("spec.selector is empty: the endpoints of this Service are written by somebody else, and a ServiceGroup has its own; " +
	"write a ServiceGroup with a selector, or with external for addresses outside the cluster")

// Service converts a Service. The error is about a Service that no ServiceGroup can replace; it is one
// sentence that names the field and the remedy.
func Service(svc *corev1.Service) (Result, error) {
	if owner := metav1.GetControllerOf(svc); owner != nil && owner.Kind == "ServiceGroup" {
		return Result{}, fmt.Errorf("metadata.ownerReferences: ServiceGroup %s made this Service; edit that one", owner.Name)
	}
	if len(svc.Spec.Selector) == 0 && svc.Spec.Type != corev1.ServiceTypeExternalName {
		return Result{}, ErrNoSelector
	}
	c := &conversion{svc: svc, out: &v1alpha1.ServiceGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ServiceGroup"},
		ObjectMeta: metav1.ObjectMeta{Name: svc.Name, Namespace: svc.Namespace},
	}}
	c.metadata()
	c.group()
	for i := range svc.Spec.Ports {
		c.out.Spec.Ports = append(c.out.Spec.Ports, c.port(&svc.Spec.Ports[i]))
	}
	c.addresses()
	c.policies()
	c.loadBalancer()
	c.rest()
	return Result{Group: c.out, Warnings: c.warnings}, nil
}

type conversion struct {
	svc      *corev1.Service
	out      *v1alpha1.ServiceGroup
	warnings []string
}

func (c *conversion) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

// group makes the one group, named after the Service.
func (c *conversion) group() {
	if len(c.svc.Spec.Selector) == 0 {
		return // of type ExternalName
	}
	name := c.svc.Name
	if len(name) > maxGroupName {
		name = strings.TrimRight(name[:maxGroupName], "-")
		c.warn("metadata.name: is longer than the name of a group may be; the group is named %s", name)
	}
	c.out.Spec.Groups = []v1alpha1.Group{{Name: name, Selector: &metav1.LabelSelector{MatchLabels: maps.Clone(c.svc.Spec.Selector)}}}
}

func (c *conversion) port(p *corev1.ServicePort) v1alpha1.Port {
	out := v1alpha1.Port{Name: p.Name, Protocol: p.Protocol, AppProtocol: p.AppProtocol, Port: p.Port}
	if c.svc.Spec.Type != corev1.ServiceTypeClusterIP && c.svc.Spec.Type != "" {
		out.NodePort = p.NodePort
	}
	if out.Protocol == corev1.ProtocolTCP {
		out.Protocol = ""
	}
	if p.TargetPort != (intstr.IntOrString{}) && p.TargetPort != intstr.FromInt32(p.Port) {
		out.TargetPort = ptr.To(p.TargetPort)
	}
	return out
}

// addresses keeps the addresses and families the Service has, so that the ServiceGroup gets them back
// even if the Service is lost.
func (c *conversion) addresses() {
	spec := &c.svc.Spec
	c.out.Spec.Type = spec.Type
	if spec.Type == corev1.ServiceTypeExternalName {
		c.out.Spec.ExternalName = spec.ExternalName
		return
	}
	switch {
	case len(spec.ClusterIPs) > 1:
		c.out.Spec.ClusterIPs = slices.Clone(spec.ClusterIPs)
	case spec.ClusterIP != "":
		c.out.Spec.ClusterIP = spec.ClusterIP
	}
	c.out.Spec.IPFamilies = slices.Clone(spec.IPFamilies)
	c.out.Spec.IPFamilyPolicy = spec.IPFamilyPolicy
}

// policies leaves out what is the default.
func (c *conversion) policies() {
	spec, out := &c.svc.Spec, &c.out.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		out.SessionAffinity = spec.SessionAffinity
		if config := spec.SessionAffinityConfig; config != nil && config.ClientIP != nil && config.ClientIP.TimeoutSeconds != nil {
			out.SessionAffinityConfig = &v1alpha1.SessionAffinityConfig{ClientIP: &v1alpha1.ClientIPConfig{TimeoutSeconds: ptr.To(*config.ClientIP.TimeoutSeconds)}}
		}
	}
	if out.Type == corev1.ServiceTypeNodePort || out.Type == corev1.ServiceTypeLoadBalancer {
		out.ExternalTrafficPolicy = spec.ExternalTrafficPolicy
	}
	if ptr.Deref(spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster) != corev1.ServiceInternalTrafficPolicyCluster {
		out.InternalTrafficPolicy = spec.InternalTrafficPolicy
	}
	out.TrafficDistribution = spec.TrafficDistribution
	out.PublishNotReadyAddresses = spec.PublishNotReadyAddresses
}

func (c *conversion) loadBalancer() {
	spec, out := &c.svc.Spec, &c.out.Spec
	if spec.Type != corev1.ServiceTypeLoadBalancer {
		if len(spec.LoadBalancerSourceRanges) > 0 {
			c.warn("spec.loadBalancerSourceRanges: has no effect with type %s and was left out", spec.Type)
		}
		return
	}
	out.LoadBalancerClass = spec.LoadBalancerClass
	out.LoadBalancerSourceRanges = slices.Clone(spec.LoadBalancerSourceRanges)
	if !ptr.Deref(spec.AllocateLoadBalancerNodePorts, true) {
		out.AllocateLoadBalancerNodePorts = ptr.To(false)
	}
	out.HealthCheckNodePort = spec.HealthCheckNodePort
}

// rest warns of what a ServiceGroup has no field for.
func (c *conversion) rest() {
	spec := &c.svc.Spec
	if len(spec.ExternalIPs) > 0 {
		c.warn("spec.externalIPs: %s: a ServiceGroup has no such field, and adoption removes it: these addresses stop being answered; use type LoadBalancer", strings.Join(spec.ExternalIPs, ","))
	}
	if spec.LoadBalancerIP != "" {
		c.warn("spec.loadBalancerIP: %s: a ServiceGroup has no such field, which is deprecated, and adoption removes it; ask for the address with an annotation of your load-balancer controller in spec.serviceMetadata", spec.LoadBalancerIP)
	}
}
