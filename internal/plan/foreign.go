package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// foreignFields are the fields that somebody else set on a Service, that we leave unset, and that
// change where traffic goes, as the JSON merge patch that unsets them:
//   - a selector: the cluster would add endpoints of its own;
//   - traffic policies and hints: they leave clients or endpoints out;
//   - the timeout of session affinity, and the word that a load balancer needs no nodePorts;
//   - publishNotReadyAddresses: it lets unready pods in;
//   - externalName: it is what is left of a Service that somebody made an ExternalName;
//   - the label that hands the Service to a proxy it is not meant for.
//
// loadBalancerSourceRanges stay and are told: somebody, perhaps an admission policy, restricts who may come
// in, and taking that out would let everybody in. externalIPs and loadBalancerIP stay, once the Service is adopted: controllers of load balancers write them, and would
// write them again.
func foreignFields(live *corev1.Service, owned, want *corev1ac.ServiceApplyConfiguration) map[string]any {
	mine, spec := owned.Spec, map[string]any{}
	if mine == nil {
		mine = corev1ac.ServiceSpec()
	}
	local, wanted := corev1.ServiceInternalTrafficPolicyLocal, want.Spec
	for field, foreign := range map[string]bool{
		"selector": len(live.Spec.Selector) > 0,
		// Not while it is the type: the API server refuses such a Service without a name.
		"externalName": live.Spec.ExternalName != "" && live.Spec.Type != corev1.ServiceTypeExternalName &&
			mine.ExternalName == nil && wanted.ExternalName == nil,
		"publishNotReadyAddresses": live.Spec.PublishNotReadyAddresses && mine.PublishNotReadyAddresses == nil && wanted.PublishNotReadyAddresses == nil,
		"trafficDistribution":      live.Spec.TrafficDistribution != nil && mine.TrafficDistribution == nil && wanted.TrafficDistribution == nil,
		"internalTrafficPolicy":    ptr.Deref(live.Spec.InternalTrafficPolicy, "") == local && mine.InternalTrafficPolicy == nil && wanted.InternalTrafficPolicy == nil,
		"externalTrafficPolicy": live.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal &&
			mine.ExternalTrafficPolicy == nil && wanted.ExternalTrafficPolicy == nil,
		"sessionAffinityConfig": affinityTimeout(live) != corev1.DefaultClientIPServiceAffinitySeconds && mine.SessionAffinityConfig == nil &&
			wanted.SessionAffinityConfig == nil && ptr.Deref(wanted.SessionAffinity, "") == live.Spec.SessionAffinity,
		"allocateLoadBalancerNodePorts": !ptr.Deref(live.Spec.AllocateLoadBalancerNodePorts, true) && mine.AllocateLoadBalancerNodePorts == nil &&
			wanted.AllocateLoadBalancerNodePorts == nil && ptr.Deref(wanted.Type, "") == live.Spec.Type,
	} {
		if foreign {
			spec[field] = nil
		}
	}
	out := map[string]any{}
	if len(spec) > 0 {
		out["spec"] = spec
	}
	const label = v1alpha1.LabelServiceProxyName
	if live.Labels[label] != "" && owned.Labels[label] == "" && want.Labels[label] == "" {
		out["metadata"] = map[string]any{"labels": map[string]any{label: nil}}
	}
	return out
}

// affinityTimeout is the timeout of a Service's session affinity, the default if there is none.
func affinityTimeout(svc *corev1.Service) int32 {
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil {
		return ptr.Deref(c.ClientIP.TimeoutSeconds, corev1.DefaultClientIPServiceAffinitySeconds)
	}
	return corev1.DefaultClientIPServiceAffinitySeconds
}

// hasForeignPort finds a port, or the appProtocol of one, that others added: the last apply did not write it,
// so the next one would not remove it.
func hasForeignPort(live *corev1.Service, owned, want *corev1ac.ServiceApplyConfiguration) bool {
	mine, wanted := ports(owned), ports(want)
	return slices.ContainsFunc(live.Spec.Ports, func(p corev1.ServicePort) bool {
		key := portNumber{p.Port, p.Protocol}
		written := []*corev1ac.ServicePortApplyConfiguration{mine[key], wanted[key]}
		return !slices.ContainsFunc(written, func(w *corev1ac.ServicePortApplyConfiguration) bool {
			return w != nil && (p.AppProtocol == nil || w.AppProtocol != nil)
		})
	})
}

// hasSurplusNodePort finds a nodePort of the time before allocateLoadBalancerNodePorts became false.
// The API server takes back none that it gave: whoever writes the Service has to leave it out.
func hasSurplusNodePort(live *corev1.Service, want *corev1ac.ServiceApplyConfiguration) bool {
	if ptr.Deref(live.Spec.AllocateLoadBalancerNodePorts, true) || ptr.Deref(want.Spec.AllocateLoadBalancerNodePorts, true) {
		return false
	}
	asked := map[int32]bool{}
	for i := range want.Spec.Ports {
		asked[ptr.Deref(want.Spec.Ports[i].NodePort, 0)] = true
	}
	return slices.ContainsFunc(live.Spec.Ports, func(p corev1.ServicePort) bool {
		return p.NodePort != 0 && !asked[p.NodePort]
	})
}

// withNodePorts are the ports we want, those that name no nodePort with the one they have. Left out, the API
// server would keep it for a port of the same name only, and the name may be what is to be repaired.
func withNodePorts(want *corev1ac.ServiceSpecApplyConfiguration, live *corev1.Service) []corev1ac.ServicePortApplyConfiguration {
	out := slices.Clone(want.Ports)
	if !getNodePorts(ptr.Deref(want.Type, ""), want.AllocateLoadBalancerNodePorts) {
		return out
	}
	asked := map[int32]bool{0: true}
	for i := range out {
		asked[ptr.Deref(out[i].NodePort, 0)] = true
	}
	for i := range out {
		for _, p := range live.Spec.Ports {
			if out[i].NodePort == nil && !asked[p.NodePort] && *out[i].Port == p.Port && *out[i].Protocol == p.Protocol {
				out[i].WithNodePort(p.NodePort)
			}
		}
	}
	return out
}

// RepairPatch is a JSON merge patch that undoes what others added, for the resourceVersion we saw.
// It replaces all ports at once: adding ours before removing the foreign ones, or the other way
// round, could be two ports of one name or no port at all, which the API server refuses.
func RepairPatch(live *corev1.Service, want *corev1ac.ServiceApplyConfiguration) ([]byte, error) {
	owned, err := corev1ac.ExtractService(live, v1alpha1.ManagedBy)
	if err != nil {
		return nil, fmt.Errorf("extracting the applied fields of the Service: %w", err)
	}
	metadata := map[string]any{"resourceVersion": live.ResourceVersion}
	spec := map[string]any{"ports": withNodePorts(want.Spec, live)}
	if ptr.Deref(want.Spec.Type, "") != corev1.ServiceTypeExternalName && live.Spec.Type != corev1.ServiceTypeExternalName {
		spec["type"] = want.Spec.Type // nodePorts go with it
	}
	foreign := foreignFields(live, owned, want)
	if m, ok := foreign["metadata"].(map[string]any); ok {
		maps.Copy(metadata, m)
	}
	if m, ok := foreign["spec"].(map[string]any); ok {
		maps.Copy(spec, m)
	}
	patch, err := json.Marshal(map[string]any{"metadata": metadata, "spec": spec})
	if err != nil {
		return nil, fmt.Errorf("encoding the repair of a Service: %w", err)
	}
	return patch, nil
}
