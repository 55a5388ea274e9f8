package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"

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

// ServiceDiff is what to do to a Service that exists.
type ServiceDiff struct {
	// Apply says that something we own differs from what we want.
	Apply bool
	// Repair says that a server-side apply alone cannot undo what others did: RepairPatch first.
	Repair bool
	// Restore says that a port is gone whose nodePort status remembers: RestoredService is to be
	// applied, not Service.
	Restore bool
}

// Empty says that there is nothing to do.
func (d ServiceDiff) Empty() bool { return !d.Apply }

// DiffService compares what we own of a Service with what we want to own. Ownership is read from
// managedFields, so a field that somebody else overwrote counts as different. A field that somebody
// else added counts only if it changes where traffic goes: a selector (the cluster would add
// endpoints of its own) and ports that the ServiceGroup does not have.
func DiffService(live *corev1.Service, sg *v1alpha1.ServiceGroup) (ServiceDiff, error) {
	owned, err := corev1ac.ExtractService(live, v1alpha1.ManagedBy)
	if err != nil {
		return ServiceDiff{}, fmt.Errorf("extracting the applied fields of the Service: %w", err)
	}
	want := Service(sg)
	diff := ServiceDiff{Apply: !apiequality.Semantic.DeepEqual(inOrder(owned), inOrder(want))}
	if len(live.Spec.Selector) > 0 || hasForeignPort(live, ports(owned), ports(want)) {
		diff.Apply, diff.Repair = true, true
	}
	diff.Restore = lostNodePort(live, sg)
	return diff, nil
}

// lostNodePort finds a port that the Service lost together with the nodePort the API server gave it.
func lostNodePort(live *corev1.Service, sg *v1alpha1.ServiceGroup) bool {
	return slices.ContainsFunc(sg.Spec.Ports, func(p v1alpha1.Port) bool {
		return p.NodePort == 0 && rememberedNodePort(&sg.Status, p.Port, protocolOf(&p)) != 0 &&
			!slices.ContainsFunc(live.Spec.Ports, func(l corev1.ServicePort) bool {
				return l.Port == p.Port && l.Protocol == protocolOf(&p)
			})
	})
}

// hasForeignPort finds a port that others added: the last apply did not write it, so the next one
// would not remove it.
func hasForeignPort(live *corev1.Service, owned, wanted map[portNumber]bool) bool {
	return slices.ContainsFunc(live.Spec.Ports, func(p corev1.ServicePort) bool {
		key := portNumber{p.Port, p.Protocol}
		return !wanted[key] && !owned[key]
	})
}

// RepairPatch is a JSON merge patch that undoes what others added, for the resourceVersion we saw.
// It replaces all ports at once: adding ours before removing the foreign ones, or the other way
// round, could be two ports of one name or no port at all, which the API server refuses.
func RepairPatch(live *corev1.Service, want *corev1ac.ServiceApplyConfiguration) []byte {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": live.ResourceVersion},
		"spec":     map[string]any{"selector": nil, "ports": want.Spec.Ports},
	})
	if err != nil { // these types cannot fail
		panic(fmt.Sprintf("encoding the repair of a Service: %v", err))
	}
	return patch
}

// portNumber identifies a port of a Service.
type portNumber struct {
	number   int32
	protocol corev1.Protocol
}

func ports(in *corev1ac.ServiceApplyConfiguration) map[portNumber]bool {
	numbers := map[portNumber]bool{}
	if in.Spec == nil {
		return numbers
	}
	for i := range in.Spec.Ports {
		p := in.Spec.Ports[i]
		numbers[portNumber{ptr.Deref(p.Port, 0), ptr.Deref(p.Protocol, corev1.ProtocolTCP)}] = true
	}
	return numbers
}

// inOrder is a copy with the ports in an order of their own: a server-side apply keeps the order in
// which the ports came to be.
func inOrder(in *corev1ac.ServiceApplyConfiguration) corev1ac.ServiceApplyConfiguration {
	out := *in
	if in.Spec == nil {
		return out
	}
	spec := *in.Spec
	spec.Ports = slices.SortedFunc(slices.Values(in.Spec.Ports), func(a, b corev1ac.ServicePortApplyConfiguration) int {
		return cmp.Or(cmp.Compare(ptr.Deref(a.Port, 0), ptr.Deref(b.Port, 0)),
			cmp.Compare(ptr.Deref(a.Protocol, ""), ptr.Deref(b.Protocol, "")))
	})
	out.Spec = &spec
	return out
}
