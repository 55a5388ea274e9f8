package node

import (
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// slim takes out what the agent never reads before an object enters the cache, and lets objects share
// what many of them say alike: with 100,000 endpoints the rest would be most of the agent's memory.
func slim(obj any) (any, error) {
	if accessor, err := meta.Accessor(obj); err == nil {
		accessor.SetManagedFields(nil)
		accessor.SetOwnerReferences(nil)
		accessor.SetFinalizers(nil)
	}
	switch o := obj.(type) {
	case *corev1.Node:
		o.Annotations = nil
		o.Spec = corev1.NodeSpec{PodCIDRs: o.Spec.PodCIDRs, Taints: o.Spec.Taints}
		o.Status = corev1.NodeStatus{Addresses: o.Status.Addresses}
	case *corev1.Service:
		o.Annotations = nil
		o.Spec.Selector = nil
		o.Labels = only(o.Labels, v1alpha1.LabelServiceProxyName, v1alpha1.LabelAdopting, v1alpha1.LabelServiceGroup)
	case *discoveryv1.EndpointSlice:
		slimSlice(o)
	}
	return obj, nil
}

func slimSlice(o *discoveryv1.EndpointSlice) {
	o.GenerateName = ""
	o.Labels = only(o.Labels, v1alpha1.LabelServiceProxyName, discoveryv1.LabelServiceName, v1alpha1.LabelGroup)
	if group, found := o.Labels[v1alpha1.LabelGroup]; found {
		o.Labels[v1alpha1.LabelGroup] = *sharedString(&group)
	}
	o.Annotations = only(o.Annotations, corev1.EndpointsLastChangeTriggerTime)
	// Decoding doubles the room until they fit; a third of it would stay empty for good.
	o.Endpoints = append(make([]discoveryv1.Endpoint, 0, len(o.Endpoints)), o.Endpoints...)
	for i := range o.Endpoints {
		ep := &o.Endpoints[i]
		ep.TargetRef, ep.Zone, ep.Hostname, ep.DeprecatedTopology = nil, nil, nil, nil
		ep.NodeName = sharedString(ep.NodeName)
		ep.Conditions.Ready = sharedBool(ep.Conditions.Ready)
		ep.Conditions.Serving = sharedBool(ep.Conditions.Serving)
		ep.Conditions.Terminating = sharedBool(ep.Conditions.Terminating)
		if len(ep.Addresses) > 1 {
			ep.Addresses = ep.Addresses[:1:1]
		}
	}
	for i := range o.Ports {
		p := &o.Ports[i]
		p.Name, p.AppProtocol = sharedString(p.Name), nil
	}
}

// only returns the entries of these keys.
func only(all map[string]string, keys ...string) map[string]string {
	var out map[string]string
	for _, key := range keys {
		if value, found := all[key]; found {
			if out == nil {
				out = make(map[string]string, len(keys))
			}
			out[key] = value
		}
	}
	return out
}

var yes, no = true, false

func sharedBool(b *bool) *bool {
	switch {
	case b == nil:
		return nil
	case *b:
		return &yes
	}
	return &no
}

// interned are strings that many objects have: names of nodes, ports and groups.
var interned struct {
	sync.Mutex
	strings map[string]*string
}

// maxInterned bounds what is kept of those that are long gone.
const maxInterned = 100_000

// sharedString returns the string that every object with an equal one shares.
func sharedString(s *string) *string {
	if s == nil {
		return nil
	}
	interned.Lock()
	defer interned.Unlock()
	if shared, found := interned.strings[*s]; found {
		return shared
	}
	if interned.strings == nil || len(interned.strings) >= maxInterned {
		interned.strings = map[string]*string{}
	}
	own := strings.Clone(*s)
	interned.strings[own] = &own
	return &own
}
