package plan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

const kindServiceGroup = "ServiceGroup"

// Ownership says whose a Service is.
type Ownership string

const (
	// Ours: the Service belongs to the ServiceGroup, or lost its owner but was applied by us.
	Ours Ownership = "Ours"
	// Predecessors: it belongs to a deleted ServiceGroup of the same name, and the garbage
	// collector is about to remove it.
	Predecessors Ownership = "Predecessors"
	// Foreign: somebody else made it.
	Foreign Ownership = "Foreign"
)

// OwnershipOf says whether a Service of the ServiceGroup's name is the one we generated. Labels
// prove nothing, since everybody can set them; the controller reference and the field manager of
// the last server-side apply do.
func OwnershipOf(svc *corev1.Service, sg *v1alpha1.ServiceGroup) Ownership {
	owner := metav1.GetControllerOf(svc)
	switch {
	case owner == nil && appliedByUs(svc):
		return Ours
	case owner == nil:
		return Foreign
	case owner.UID == sg.UID:
		return Ours
	case owner.Kind == kindServiceGroup && owner.APIVersion == v1alpha1.GroupVersion.String() && owner.Name == sg.Name:
		return Predecessors
	default:
		return Foreign
	}
}

func appliedByUs(svc *corev1.Service) bool {
	return slices.ContainsFunc(svc.ManagedFields, func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Manager == v1alpha1.ManagedBy && entry.Operation == metav1.ManagedFieldsOperationApply
	})
}
