package plan

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/convert"
)

// maxServedBytes is what the annotation had at most.
const maxServedBytes = 200 << 10

// served is what v0.1 kept in the annotation AnnotationServed of the generated Service.
type served struct {
	Groups       []v1alpha1.Group `json:"groups"`
	Ports        []v1alpha1.Port  `json:"ports"`
	ExposeGroups bool             `json:"exposeGroups,omitempty"`
}

// AcceptedBefore is the spec that v0.1 served, from its annotation and the Service itself; nil where there
// is none. It counts once, before there is a ControllerRevision, and only if the last apply of ours wrote
// the annotation: others may edit it.
func AcceptedBefore(svc *corev1.Service, sg *v1alpha1.ServiceGroup) *Accepted {
	if svc == nil || OwnershipOf(svc, sg) != Ours {
		return nil
	}
	owned, err := corev1ac.ExtractService(svc, v1alpha1.ManagedBy)
	if err != nil || owned.Spec == nil {
		return nil
	}
	text := owned.Annotations[v1alpha1.AnnotationServed]
	var before served
	if text == "" || len(text) > maxServedBytes || decodeStrictly([]byte(text), &before) != nil || !before.inBounds() {
		return nil
	}
	spec := specBefore(svc, owned, before)
	if spec == nil || len(Validate(spec)) > 0 {
		return nil
	}
	entry, err := Resolve(spec)
	if err != nil {
		return nil
	}
	revision := Revision{Name: RevisionName(sg.Name, 1), Number: 1, Hash: HashSpec(spec), Allocated: AllocatedTo(svc, AllocatedIn(&sg.Status))}
	return &Accepted{Revision: revision, Spec: spec, Entry: entry}
}

// specBefore is the spec of which a Service was made; nil if there can be none.
func specBefore(svc *corev1.Service, owned *corev1ac.ServiceApplyConfiguration, before served) *v1alpha1.ServiceGroupSpec {
	plain := svc.DeepCopy() // as if a user had made it
	plain.OwnerReferences = nil
	if plain.Spec.Type != corev1.ServiceTypeExternalName {
		plain.Spec.Selector = map[string]string{"any": "any"}
	}
	converted, err := convert.Service(plain)
	if err != nil {
		return nil
	}
	spec := &converted.Group.Spec
	spec.Groups, spec.ExposeGroups = before.Groups, before.ExposeGroups
	has := AllocatedTo(svc, Allocated{})
	for i := range before.Ports {
		before.Ports[i].NodePort = has.nodePort(portNumber{before.Ports[i].Port, protocolOf(&before.Ports[i])})
	}
	spec.Ports = before.Ports
	spec.ServiceMetadata = &v1alpha1.ServiceMetadata{Labels: withoutOurs(owned.Labels), Annotations: withoutOurs(owned.Annotations)}
	if hasVIP(spec) && owned.Labels[v1alpha1.LabelServiceProxyName] == "" {
		spec.Dataplane = v1alpha1.DataplaneCluster
	}
	return spec
}

// withoutOurs are the labels or annotations that the user asked for.
func withoutOurs(all map[string]string) map[string]string {
	out := maps.Clone(all)
	maps.DeleteFunc(out, func(key, _ string) bool {
		_, taken := reserved[key]
		return taken || strings.HasPrefix(key, reservedPrefix)
	})
	return out
}
