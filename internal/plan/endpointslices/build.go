package endpointslices

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// build makes the slice of a bin. It shares nothing with what exists or with other slices: what the API
// server answers is read into it.
func (p *packer) build(b *bin) *discoveryv1.EndpointSlice {
	out := p.empty(b.have)
	out.Labels = maps.Clone(p.labels)
	out.Ports = make([]discoveryv1.EndpointPort, len(b.set.ports))
	for i := range b.set.ports {
		b.set.ports[i].DeepCopyInto(&out.Ports[i])
	}
	out.Endpoints = make([]discoveryv1.Endpoint, 0, len(b.endpoints))
	for _, e := range b.endpoints {
		out.Endpoints = append(out.Endpoints, e.build())
	}
	slices.SortStableFunc(out.Endpoints, func(a, b discoveryv1.Endpoint) int {
		return cmp.Or(slices.Compare(a.Addresses, b.Addresses), cmp.Compare(a.TargetRef.Name, b.TargetRef.Name))
	})
	p.stamp(out)
	return out
}

// empty is a copy of a slice that exists without what is in it, or a new one.
func (p *packer) empty(have *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	if have != nil {
		head := *have
		head.Endpoints, head.Ports, head.Labels = nil, nil, nil
		return head.DeepCopy()
	}
	svc := p.group.Service
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: namePrefix(svc.Name), Namespace: svc.Namespace,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(svc, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: p.family,
	}
}

// stamp says when the change happened, from which others measure how long it took to reach the nodes.
func (p *packer) stamp(slice *discoveryv1.EndpointSlice) {
	if p.group.Trigger == "" {
		delete(slice.Annotations, corev1.EndpointsLastChangeTriggerTime)
		return
	}
	if slice.Annotations == nil {
		slice.Annotations = map[string]string{}
	}
	slice.Annotations[corev1.EndpointsLastChangeTriggerTime] = p.group.Trigger
}

// namePrefix is the prefix of the names of the slices of a Service, with a dash unless that is too long.
func namePrefix(service string) string {
	if prefix := service + "-"; len(apivalidation.NameIsDNSSubdomain(prefix, true)) == 0 {
		return prefix
	}
	return service
}

// sliceLabels are the labels of every slice of a Service: its own, and those by which slices are found.
func sliceLabels(svc *corev1.Service) map[string]string {
	labels := make(map[string]string, len(svc.Labels)+3)
	maps.Copy(labels, svc.Labels)
	delete(labels, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		labels[corev1.IsHeadlessService] = ""
	}
	labels[discoveryv1.LabelServiceName] = svc.Name
	labels[discoveryv1.LabelManagedBy] = v1alpha1.ManagedBy
	return labels
}
