package plan

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Standing is what a pod is to a group.
type Standing string

const (
	// NotSelected: the selector does not match the pod.
	NotSelected Standing = "NotSelected"
	// Finished: it matches, and the pod has run to its end.
	Finished Standing = "Finished"
	// NoAddress: it matches, and the pod has no address yet.
	NoAddress Standing = "NoAddress"
	// BadAddress: the API server takes no such address in an EndpointSlice.
	BadAddress Standing = "BadAddress"
	// NoFamily: none of its addresses is of a family that the Service has.
	NoFamily Standing = "NoFamily"
	// NoNode: the pod's node does not exist; this is what a deleted node leaves behind.
	NoNode Standing = "NoNode"
	// NotReady: an endpoint that gets no connections until the pod is ready.
	NotReady Standing = "NotReady"
	// Terminating: an endpoint that gets connections only where no other one is ready.
	Terminating Standing = "Terminating"
	// Serving: a ready endpoint.
	Serving Standing = "Serving"
)

// StandingOf says what a pod is to the group with a selector, behind a Service, and so why it is in or
// out. Members decides by it.
func StandingOf(svc *corev1.Service, selector labels.Selector, pod *corev1.Pod, nodes Nodes) Standing {
	switch {
	case !selector.Matches(labels.Set(pod.Labels)):
		return NotSelected
	case pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed:
		return Finished
	case len(pod.Status.PodIPs) == 0:
		return NoAddress
	case !routable(pod):
		return BadAddress
	case !hasFamily(svc, pod):
		return NoFamily
	case nodes[pod.Spec.NodeName] == nil && !svc.Spec.PublishNotReadyAddresses:
		return NoNode
	case pod.DeletionTimestamp != nil:
		return Terminating
	case !ReadyCondition(pod):
		return NotReady
	}
	return Serving
}
