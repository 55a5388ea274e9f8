package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// ServiceDiff is what to do to a Service that exists.
type ServiceDiff struct {
	// Apply says that something we own differs from what we want.
	Apply bool
	// Repair says that a server-side apply alone cannot undo what others did: RepairPatch first.
	Repair bool
	// Restore says that something is lost that the entry point had: RestoredService is to be applied, not
	// Service. Alone, without Apply, it says so of nodePorts that others overwrote.
	Restore bool
}

// Empty says that there is nothing to do.
func (d ServiceDiff) Empty() bool { return !d.Apply && !d.Restore }

// DiffService compares what we own of a Service with what we want to own. Ownership is read from
// managedFields, so a field that somebody else overwrote counts as different. A field that somebody
// else added counts only if it changes where traffic goes: see foreignFields.
func DiffService(live *corev1.Service, want Desired) (ServiceDiff, error) {
	diff, err := diffService(live, Service(want))
	if err != nil {
		return ServiceDiff{}, err
	}
	sg, had := want.Group, want.Had
	diff.Restore = len(lostNodePorts(live, sg, had)) > 0 ||
		diff.Apply && (len(lostClusterIPs(live, sg, had)) > 0 || lostHealthCheck(live, sg, had) != 0)
	return diff, nil
}

// HeadlessChange is the refusal of a spec that makes a headless Service of one with a virtual IP, or
// the other way round. Without it a virtual IP asked for would silently not come: the API server
// puts the old clusterIP where a write leaves it out.
func HeadlessChange(live *corev1.Service, spec *v1alpha1.ServiceGroupSpec) *Refusal {
	was := live.Spec.ClusterIP == corev1.ClusterIPNone
	if isExternalName(spec) || live.Spec.Type == corev1.ServiceTypeExternalName || was == isHeadless(spec) {
		return nil
	}
	wanted := strings.Join(wantedClusterIPs(spec), ",")
	if wanted == "" {
		wanted = "none given"
	}
	return &Refusal{
		Reason: v1alpha1.ReasonClusterIPUnavailable,
		Message: fmt.Sprintf("spec.clusterIP: %s: a Service keeps its virtual IP, or stays without one, for life; "+
			"restore clusterIP: %s, or delete the ServiceGroup and create it anew", wanted, live.Spec.ClusterIP),
	}
}

func diffService(live *corev1.Service, want *corev1ac.ServiceApplyConfiguration) (ServiceDiff, error) {
	owned, err := corev1ac.ExtractService(live, v1alpha1.ManagedBy)
	if err != nil {
		return ServiceDiff{}, fmt.Errorf("extracting the applied fields of the Service: %w", err)
	}
	diff := ServiceDiff{Apply: !apiequality.Semantic.DeepEqual(inOrder(owned), inOrder(want))}
	if len(foreignFields(live, owned, want)) > 0 || hasForeignPort(live, owned, want) || hasSurplusNodePort(live, want) {
		diff.Apply, diff.Repair = true, true
	}
	return diff, nil
}

// portNumber identifies a port of a Service.
type portNumber struct {
	number   int32
	protocol corev1.Protocol
}

func ports(in *corev1ac.ServiceApplyConfiguration) map[portNumber]*corev1ac.ServicePortApplyConfiguration {
	out := map[portNumber]*corev1ac.ServicePortApplyConfiguration{}
	if in.Spec == nil {
		return out
	}
	for i := range in.Spec.Ports {
		p := &in.Spec.Ports[i]
		out[portNumber{ptr.Deref(p.Port, 0), ptr.Deref(p.Protocol, corev1.ProtocolTCP)}] = p
	}
	return out
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
