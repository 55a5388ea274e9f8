package plan

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// Exposed is the headless Service of one group.
type Exposed struct {
	// Group is the name of the group.
	Group string
	// Service is what to apply.
	Service *corev1ac.ServiceApplyConfiguration
}

// ExposedName is the name of the Service of a group.
func ExposedName(name, group string) string { return name + "-" + group }

// ExposedServices are the Services of the groups of what a generated Service serves, in the order of
// the groups; none unless they are asked for. They have the families of the generated Service, the
// ports that lead to the group, and no part in any data plane.
func ExposedServices(sg *v1alpha1.ServiceGroup, main *corev1.Service, entry EntryPoint) []Exposed {
	if !entry.ExposeGroups {
		return nil
	}
	var out []Exposed
	for i := range entry.Groups {
		group := entry.Groups[i].Name
		out = append(out, Exposed{Group: group, Service: exposedService(sg, main, entry, group)})
	}
	return out
}

func exposedService(sg *v1alpha1.ServiceGroup, main *corev1.Service, entry EntryPoint, group string) *corev1ac.ServiceApplyConfiguration {
	policy := corev1.IPFamilyPolicySingleStack
	if len(main.Spec.IPFamilies) > 1 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	spec := corev1ac.ServiceSpec().
		WithType(corev1.ServiceTypeClusterIP).WithSessionAffinity(corev1.ServiceAffinityNone).
		WithClusterIP(corev1.ClusterIPNone).WithClusterIPs(corev1.ClusterIPNone).
		WithIPFamilyPolicy(policy).WithIPFamilies(main.Spec.IPFamilies...)
	if main.Spec.PublishNotReadyAddresses {
		spec.WithPublishNotReadyAddresses(true)
	}
	for i := range entry.Ports {
		target, ok := entry.Ports[i].Target(group)
		if !ok {
			continue
		}
		port := &entry.Ports[i]
		spec.WithPorts(servicePort(&v1alpha1.Port{
			Name: port.Name, Port: port.Number, Protocol: port.Protocol, AppProtocol: port.AppProtocol, TargetPort: &target,
		}))
	}
	return corev1ac.Service(ExposedName(sg.Name, group), sg.Namespace).
		WithLabels(map[string]string{v1alpha1.LabelServiceGroup: sg.Name, v1alpha1.LabelGroup: group}).
		WithOwnerReferences(ownerOf(sg)).WithSpec(spec)
}

// DiffExposed compares what we own of the Service of a group with what we want to own.
func DiffExposed(live *corev1.Service, want *corev1ac.ServiceApplyConfiguration) (ServiceDiff, error) {
	return diffService(live, want)
}

// SurplusExposed are those of the Services found, by their names, that are of groups no longer exposed. Those
// that are going already may stay for long, as somebody's finalizer says, and are nothing to wait for.
func SurplusExposed(found map[string]*corev1.Service, sg *v1alpha1.ServiceGroup, wanted []Exposed) []*corev1.Service {
	keep := map[string]bool{sg.Name: true}
	for i := range wanted {
		keep[*wanted[i].Service.Name] = true
	}
	var out []*corev1.Service
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if svc := found[name]; !keep[name] && svc.DeletionTimestamp.IsZero() && metav1.IsControlledBy(svc, sg) {
			out = append(out, svc)
		}
	}
	return out
}

// ExposedTaken says that a Service of the name of a group's is not ours.
func ExposedTaken(svc *corev1.Service, sg *v1alpha1.ServiceGroup) Refusal {
	owner := "which no ServiceGroup made"
	if c := metav1.GetControllerOf(svc); c != nil {
		owner = fmt.Sprintf("which belongs to %s %s", c.Kind, c.Name)
	}
	if OwnershipOf(svc, sg) == Predecessors {
		owner = "of a deleted ServiceGroup of this name, which the garbage collector is about to remove"
	}
	return Refusal{
		Reason: v1alpha1.ReasonNameTaken,
		Message: fmt.Sprintf("spec.exposeGroups: there is a Service %s already, %s; "+
			"it is left alone: delete it, rename the group, or remove exposeGroups", svc.Name, owner),
	}
}
