package plan

import (
	"encoding/json"
	"fmt"
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

// WrotePorts says whether an entry of managedFields is that of somebody else who wrote the type of a Service
// or a part of its ports. Of these there is none, as a rule: what others write there is undone.
func WrotePorts(entry metav1.ManagedFieldsEntry) bool {
	ports, kind := writtenPorts(entry)
	return kind || len(ports) > 0
}

// othersWrote says whether somebody else wrote the type of a Service or a part of one of its ports, and so may
// have brought about the nodePort that it has.
func othersWrote(svc *corev1.Service, port portNumber) bool {
	return slices.ContainsFunc(svc.ManagedFields, func(entry metav1.ManagedFieldsEntry) bool {
		ports, kind := writtenPorts(entry)
		return kind || ports[fmt.Sprintf(`k:{"port":%d,"protocol":%q}`, port.number, port.protocol)] != nil
	})
}

// writtenPorts are the ports of a Service that an entry of somebody else is about, by the keys of FieldsV1, and
// whether it is about the type.
func writtenPorts(entry metav1.ManagedFieldsEntry) (ports fields, kind bool) {
	if entry.Manager == v1alpha1.ManagedBy || entry.FieldsV1 == nil {
		return nil, false
	}
	var written struct {
		Spec struct {
			Type  any    `json:"f:type"`
			Ports fields `json:"f:ports"`
		} `json:"f:spec"`
	}
	if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &written) != nil {
		return nil, false // it is the API server's own format
	}
	return written.Spec.Ports, written.Spec.Type != nil
}

func appliedByUs(svc *corev1.Service) bool {
	return slices.ContainsFunc(svc.ManagedFields, func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Manager == v1alpha1.ManagedBy && entry.Operation == metav1.ManagedFieldsOperationApply
	})
}

// Overruled is the refusal of a Service that somebody changes back after each write.
func Overruled(written *corev1.Service) Refusal {
	var managers []string
	for _, entry := range written.ManagedFields {
		if entry.Manager != v1alpha1.ManagedBy && entry.Subresource == "" {
			managers = append(managers, entry.Manager)
		}
	}
	slices.Sort(managers)
	by := "perhaps an admission webhook"
	if managers = slices.Compact(managers); len(managers) > 0 {
		by = "field manager " + joinListed(managers, ", ") + ", or an admission webhook"
	}
	return Refusal{
		Reason: v1alpha1.ReasonOverruled,
		Message: fmt.Sprintf("metadata.name: %s: somebody changes this Service back after each write: %s; "+
			"have them leave it alone, or put into the spec what they want", written.Name, by),
	}
}
