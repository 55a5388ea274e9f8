package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// AdoptionRefusal says why a Service that is not the ServiceGroup's is not to be adopted; nil says
// that it is. Only a ServiceGroup that names the Service's UID adopts it: a name may stand for another
// Service tomorrow, and a manifest may be applied in a cluster it was not written for.
func AdoptionRefusal(svc *corev1.Service, sg *v1alpha1.ServiceGroup) *Refusal {
	uid, asked := sg.Annotations[v1alpha1.AnnotationAdopt]
	if !asked {
		return nameTaken(svc, fmt.Sprintf("it is left alone: take it over with what kubectl servicegroup convert svc/%s prints, "+
			"give the ServiceGroup another name, or delete the Service", svc.Name))
	}
	field := fmt.Sprintf("metadata.annotations[%s]: %q", v1alpha1.AnnotationAdopt, uid)
	refusal := &Refusal{Reason: v1alpha1.ReasonNameTaken}
	owner := metav1.GetControllerOf(svc)
	switch {
	case uid != string(svc.UID):
		refusal.Message = fmt.Sprintf("%s: the UID of Service %s is %s; "+
			"look whether it is the Service to be taken over, and if so, run kubectl servicegroup convert svc/%s again", field, svc.Name, svc.UID, svc.Name)
	case owner != nil:
		refusal.Message = fmt.Sprintf("%s: Service %s belongs to %s %s, which would go on writing it; "+
			"remove it from there first, or give the ServiceGroup another name", field, svc.Name, owner.Kind, owner.Name)
	case !svc.DeletionTimestamp.IsZero():
		refusal.Message = fmt.Sprintf("%s: Service %s is being deleted; wait until it is gone", field, svc.Name)
	default:
		return nil
	}
	return refusal
}

// nameTaken says that a Service of the wanted name is somebody else's.
func nameTaken(svc *corev1.Service, remedy string) *Refusal {
	owner := "which no ServiceGroup made"
	if c := metav1.GetControllerOf(svc); c != nil {
		owner = fmt.Sprintf("which belongs to %s %s", c.Kind, c.Name)
	}
	return &Refusal{
		Reason:  v1alpha1.ReasonNameTaken,
		Message: fmt.Sprintf("metadata.name: %s: there is a Service of this name already, %s; %s", svc.Name, owner, remedy),
	}
}

// AsksToAdopt says whether a ServiceGroup names a Service that it is to adopt.
func AsksToAdopt(sg *v1alpha1.ServiceGroup) bool {
	_, asked := sg.Annotations[v1alpha1.AnnotationAdopt]
	return asked
}

// Adopted says whether a ServiceGroup's own Service is one that it adopted.
func Adopted(svc *corev1.Service, sg *v1alpha1.ServiceGroup) bool {
	return sg.Annotations[v1alpha1.AnnotationAdopt] == string(svc.UID)
}

// KeepNodePorts is the ServiceGroup with the NodePorts of a Service that it is about to adopt wherever
// its spec leaves them open. The API server keeps a NodePort only for a port that keeps its name.
func KeepNodePorts(sg *v1alpha1.ServiceGroup, svc *corev1.Service) *v1alpha1.ServiceGroup {
	out := sg.DeepCopy()
	if !GetsNodePorts(&sg.Spec) {
		return out
	}
	asked := map[int32]bool{}
	for i := range out.Spec.Ports {
		asked[out.Spec.Ports[i].NodePort] = true
	}
	for i := range out.Spec.Ports {
		port := &out.Spec.Ports[i]
		for _, p := range svc.Spec.Ports {
			if port.NodePort == 0 && !asked[p.NodePort] && p.Port == port.Port && p.Protocol == protocolOf(port) {
				port.NodePort = p.NodePort
			}
		}
	}
	return out
}

// PreparedService is a Service about to be adopted, as far as its EndpointSlices can tell: they carry
// the labels that the Service will have, so that nobody takes note of them before it has them.
func PreparedService(svc *corev1.Service, want *corev1ac.ServiceApplyConfiguration) *corev1.Service {
	out := svc.DeepCopy()
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	maps.Copy(out.Labels, want.Labels)
	out.Spec.PublishNotReadyAddresses = ptr.Deref(want.Spec.PublishNotReadyAddresses, false)
	out.Spec.TrafficDistribution = want.Spec.TrafficDistribution
	return out
}

// Announced says whether the agents have been told to serve a Service that is about to be adopted.
func Announced(svc *corev1.Service) bool { return svc.Labels[v1alpha1.LabelAdopting] != "" }

// AnnouncePatch is a JSON merge patch that tells the agents to serve a Service that is about to be
// adopted, or no more, for the resourceVersion we saw.
func AnnouncePatch(live *corev1.Service, serve bool) []byte {
	labels := map[string]any{v1alpha1.LabelServiceGroup: nil, v1alpha1.LabelAdopting: nil}
	if serve {
		labels = map[string]any{v1alpha1.LabelServiceGroup: live.Name, v1alpha1.LabelAdopting: "true"}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": live.UID, "resourceVersion": live.ResourceVersion, "labels": labels,
	}})
	if err != nil { // these types cannot fail
		panic(fmt.Sprintf("encoding labels: %v", err))
	}
	return patch
}

// fields is a set of fields in the format of managedFields (FieldsV1).
type fields map[string]any

// ClaimPatch is a JSON merge patch that makes us the owner of the whole spec of a Service, and of the
// labels and annotations that we are about to write, for the resourceVersion we saw. It changes
// nothing else. The server-side apply after it then is one write that sets what we want and removes
// what we leave out, such as the selector; without it, every field would stay that somebody else has
// ever set, now and whenever it is removed from the ServiceGroup.
func ClaimPatch(live *corev1.Service, want *corev1ac.ServiceApplyConfiguration) ([]byte, error) {
	ours, entries := fields{}, []metav1.ManagedFieldsEntry{}
	for _, entry := range live.ManagedFields {
		if entry.Subresource != "" || entry.FieldsV1 == nil {
			entries = append(entries, entry)
			continue
		}
		theirs := fields{}
		if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &theirs); err != nil {
			return nil, fmt.Errorf("decoding the fields of %s: %w", entry.Manager, err)
		}
		if spec, ok := theirs["f:spec"]; ok {
			merge(ours, fields{"f:spec": spec})
			delete(theirs, "f:spec")
		}
		moveKeys(ours, theirs, "f:labels", want.Labels)
		moveKeys(ours, theirs, "f:labels", map[string]string{v1alpha1.LabelAdopting: ""}) // to be removed
		moveKeys(ours, theirs, "f:annotations", want.Annotations)
		if len(theirs) > 0 {
			entries = append(entries, entryOf(entry, theirs))
		}
	}
	entries = append(entries, entryOf(metav1.ManagedFieldsEntry{
		Manager: v1alpha1.ManagedBy, Operation: metav1.ManagedFieldsOperationApply, APIVersion: "v1", FieldsType: "FieldsV1",
	}, ours))
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": live.UID, "resourceVersion": live.ResourceVersion, "managedFields": entries,
	}})
	if err != nil {
		return nil, fmt.Errorf("encoding the claim of a Service: %w", err)
	}
	return patch, nil
}

func entryOf(entry metav1.ManagedFieldsEntry, owned fields) metav1.ManagedFieldsEntry {
	raw, err := json.Marshal(owned)
	if err != nil { // it was decoded from JSON
		panic(fmt.Sprintf("encoding managed fields: %v", err))
	}
	entry.FieldsV1 = metav1.NewFieldsV1(string(raw))
	return entry
}

// moveKeys moves the keys of a map in the metadata.
func moveKeys(ours, theirs fields, name string, keys map[string]string) {
	meta, _ := theirs["f:metadata"].(map[string]any)
	from, _ := meta[name].(map[string]any)
	for key := range keys {
		if _, ok := from["f:"+key]; ok {
			merge(ours, fields{"f:metadata": map[string]any{name: map[string]any{"f:" + key: map[string]any{}}}})
			delete(from, "f:"+key)
		}
	}
}

// merge adds the fields of b to a.
func merge(a, b map[string]any) {
	for key, value := range b {
		mine, ok := a[key].(map[string]any)
		theirs, also := value.(map[string]any)
		if ok && also {
			merge(mine, theirs)
			continue
		}
		a[key] = value
	}
}

// controllersOfSelectors are the controllers of kube-controller-manager that write EndpointSlices: the
// one for Services with a selector, and the one that copies an Endpoints object without one.
var controllersOfSelectors = []string{"endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"}

// LeftBehind are the EndpointSlices that are of no use any more once a Service is adopted. Nobody
// else removes them: their controllers leave a Service alone when its selector goes.
func LeftBehind(found []discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for i := range found {
		if slices.Contains(controllersOfSelectors, found[i].Labels[discoveryv1.LabelManagedBy]) {
			out = append(out, &found[i])
		}
	}
	return out
}
