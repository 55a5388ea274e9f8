package plan

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// ExternalSlices computes the changes to the EndpointSlices of an external group: one slice for each
// family of the Service, in the form that those of pods have, and empty if
// there is no address of the family. The service is the group's synthetic one.
func ExternalSlices(service *corev1.Service, existing []*discoveryv1.EndpointSlice, external *External) Slices {
	var out Slices
	kept := map[string]bool{}
	for _, family := range service.Spec.IPFamilies {
		want := externalSlice(service, family, external)
		at := slices.IndexFunc(existing, func(s *discoveryv1.EndpointSlice) bool { return s.AddressType == want.AddressType })
		if at < 0 {
			out.Create = append(out.Create, want)
			out.Final = append(out.Final, want)
			continue
		}
		have := existing[at]
		kept[have.Name] = true
		if !sameSlice(have, want) {
			have = have.DeepCopy()
			have.Labels, have.Ports, have.Endpoints = want.Labels, want.Ports, want.Endpoints
			metav1.SetMetaDataAnnotation(&have.ObjectMeta, v1alpha1.AnnotationHostname, external.Source)
			delete(have.Annotations, corev1.EndpointsLastChangeTriggerTime) // of pods that were there before
			out.Update = append(out.Update, have)
		}
		out.Final = append(out.Final, have)
	}
	for _, slice := range existing {
		if !kept[slice.Name] {
			out.Delete = append(out.Delete, slice)
		}
	}
	return out
}

func sameSlice(have, want *discoveryv1.EndpointSlice) bool {
	source, recorded := have.Annotations[v1alpha1.AnnotationHostname]
	return maps.Equal(have.Labels, want.Labels) && recorded && source == want.Annotations[v1alpha1.AnnotationHostname] &&
		apiequality.Semantic.DeepEqual(have.Ports, want.Ports) &&
		apiequality.Semantic.DeepEqual(have.Endpoints, want.Endpoints)
}

func externalSlice(service *corev1.Service, family corev1.IPFamily, external *External) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: service.Name + "-", Namespace: service.Namespace,
			Labels:          maps.Clone(service.Labels),
			Annotations:     map[string]string{v1alpha1.AnnotationHostname: external.Source},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(service, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: discoveryv1.AddressType(family),
		Endpoints:   []discoveryv1.Endpoint{},
		Ports:       []discoveryv1.EndpointPort{},
	}
	slice.Labels[discoveryv1.LabelServiceName] = service.Name
	slice.Labels[discoveryv1.LabelManagedBy] = v1alpha1.ManagedBy
	if service.Spec.ClusterIP == corev1.ClusterIPNone {
		slice.Labels[corev1.IsHeadlessService] = ""
	}
	for i := range service.Spec.Ports {
		port := &service.Spec.Ports[i]
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{
			Name: ptr.To(port.Name), Port: ptr.To(port.TargetPort.IntVal), Protocol: ptr.To(port.Protocol), AppProtocol: port.AppProtocol,
		})
	}
	for _, endpoint := range external.Endpoints {
		if familyOf(endpoint.Address) == family {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{endpoint.Address.String()},
				Conditions: discoveryv1.EndpointConditions{
					Ready:   ptr.To(endpoint.Ready || service.Spec.PublishNotReadyAddresses),
					Serving: ptr.To(endpoint.Ready), Terminating: ptr.To(false),
				},
			})
		}
	}
	return slice
}
