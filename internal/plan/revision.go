package plan

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// RevisionHistory is how many accepted specs of a ServiceGroup are kept, the one that is served
// included.
const RevisionHistory = 5

// Bounds of what is read of a ControllerRevision. Nobody with the roles edit or view can write one, but
// what is read from the API server is bounded all the same.
const (
	maxRevisionBytes  = 1 << 20
	maxAllocatedBytes = 32 << 10
)

// Revision is a ControllerRevision of a ServiceGroup: a spec that the API server accepted. Its name is
// <ServiceGroup>-<number>.
type Revision struct {
	Name   string
	Number int64
	// Hash is that of the spec (HashSpec).
	Hash      string
	Allocated Allocated
}

// Accepted is the spec that was accepted last. The Service and its slices follow it, whatever newer
// specs ask for.
type Accepted struct {
	Revision
	Spec  *v1alpha1.ServiceGroupSpec
	Entry EntryPoint
	// Stored reports whether the ControllerRevision is written.
	Stored bool
}

// HashSpec identifies a spec by its content. Whether the ServiceGroup is paused is no part of it.
func HashSpec(spec *v1alpha1.ServiceGroupSpec) string {
	sum := sha256.Sum256(encodeSpec(spec))
	return hex.EncodeToString(sum[:])
}

// encodeSpec encodes a spec with its keys in order. The API server puts them in order when somebody patches the
// metadata, as the garbage collector does to orphan an object, and takes any other order for a change of the
// data, which it refuses.
func encodeSpec(spec *v1alpha1.ServiceGroupSpec) []byte {
	served := *spec
	served.Paused = false
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&served)
	if err != nil { // these types cannot fail
		panic(fmt.Sprintf("encoding a spec: %v", err))
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(fmt.Sprintf("encoding a spec: %v", err))
	}
	return text
}

// RevisionName is the name of a ServiceGroup's ControllerRevision.
func RevisionName(group string, number int64) string {
	return group + "-" + strconv.FormatInt(number, 10)
}

// NewRevision is the ControllerRevision of a spec that was accepted.
func NewRevision(sg *v1alpha1.ServiceGroup, accepted *Accepted) *appsv1.ControllerRevision {
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name: accepted.Name, Namespace: sg.Namespace,
			Labels: map[string]string{v1alpha1.LabelServiceGroup: sg.Name},
			Annotations: map[string]string{
				v1alpha1.AnnotationSpecHash:  accepted.Hash,
				v1alpha1.AnnotationAllocated: accepted.Allocated.encode(),
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: kindServiceGroup, Name: sg.Name, UID: sg.UID,
				Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
			}},
		},
		Data:     runtime.RawExtension{Raw: encodeSpec(accepted.Spec)},
		Revision: accepted.Number,
	}
}

// RevisionsIn are the revisions of a ServiceGroup among the metadata of ControllerRevisions, the
// oldest first. Only what it controls counts, by its UID.
func RevisionsIn(found []metav1.PartialObjectMetadata, sg *v1alpha1.ServiceGroup) []Revision {
	var out []Revision
	for i := range found {
		if revision, ok := RevisionOf(&found[i], sg); ok {
			out = append(out, revision)
		}
	}
	slices.SortFunc(out, func(a, b Revision) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// RevisionOf reads the metadata of a ControllerRevision, and reports whether it is one of the
// ServiceGroup's.
func RevisionOf(meta metav1.Object, sg *v1alpha1.ServiceGroup) (Revision, bool) {
	digits, named := strings.CutPrefix(meta.GetName(), sg.Name+"-")
	number, err := strconv.ParseInt(digits, 10, 64)
	if !named || err != nil || number < 1 || digits != strconv.FormatInt(number, 10) || !metav1.IsControlledBy(meta, sg) {
		return Revision{}, false
	}
	annotations := meta.GetAnnotations()
	revision := Revision{Name: meta.GetName(), Number: number, Hash: annotations[v1alpha1.AnnotationSpecHash]}
	if allocated, err := decodeAllocated(annotations[v1alpha1.AnnotationAllocated]); err == nil {
		revision.Allocated = allocated // without it new addresses are allocated where the Service is gone, too
	}
	return revision, true
}

// DecodeSpec reads the spec of a ControllerRevision. It takes nothing that the operator would not have
// written: the hash, the bounds and the rules of a spec hold.
func DecodeSpec(revision *appsv1.ControllerRevision) (*v1alpha1.ServiceGroupSpec, error) {
	if size := len(revision.Data.Raw); size > maxRevisionBytes {
		return nil, fmt.Errorf("decoding ControllerRevision %s: %d bytes, more than %d", revision.Name, size, maxRevisionBytes)
	}
	spec := &v1alpha1.ServiceGroupSpec{}
	if err := decodeStrictly(revision.Data.Raw, spec); err != nil {
		return nil, fmt.Errorf("decoding ControllerRevision %s: %w", revision.Name, err)
	}
	if HashSpec(spec) != revision.Annotations[v1alpha1.AnnotationSpecHash] {
		return nil, fmt.Errorf("decoding ControllerRevision %s: its content is not what annotation %s says", revision.Name, v1alpha1.AnnotationSpecHash)
	}
	return spec, nil
}

func (a Allocated) encode() string {
	text, err := json.Marshal(a)
	if err != nil { // these types cannot fail
		panic(fmt.Sprintf("encoding allocated addresses: %v", err))
	}
	return string(text)
}

var errAllocated = errors.New("not the addresses and ports of a Service")

// decodeAllocated reads an annotation. What no Service can have is refused whole.
func decodeAllocated(text string) (Allocated, error) {
	var out Allocated
	if len(text) > maxAllocatedBytes {
		return Allocated{}, errAllocated
	}
	if err := decodeStrictly([]byte(text), &out); err != nil {
		return Allocated{}, fmt.Errorf("decoding annotation %s: %w", v1alpha1.AnnotationAllocated, err)
	}
	valid := len(out.ClusterIPs) <= 2 && isPort(out.HealthCheckNodePort, true)
	for _, ip := range out.ClusterIPs {
		_, err := netip.ParseAddr(ip)
		valid = valid && err == nil
	}
	for _, p := range out.NodePorts {
		valid = valid && isPort(p.Port, false) && isPort(p.NodePort, false) && slices.Contains(protocols, p.Protocol)
	}
	if !valid {
		return Allocated{}, errAllocated
	}
	return out, nil
}

var protocols = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}

func isPort(number int32, orNone bool) bool {
	return number >= 1 && number <= 65535 || orNone && number == 0
}

// decodeStrictly decodes one JSON value with known fields only.
func decodeStrictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if decoder.More() {
		return errors.New("more than one value")
	}
	return nil
}

// NewestOf checks and resolves the spec of a ServiceGroup.
func NewestOf(spec *v1alpha1.ServiceGroupSpec, budgets Budgets) Newest {
	newest := Newest{Hash: HashSpec(spec), Problems: Validate(spec)}
	if len(newest.Problems) > 0 {
		return newest
	}
	entry, err := Resolve(spec)
	if err != nil { // Validate looks for the same
		newest.Problems = []Problem{{Field: "spec", Value: "", Cause: err.Error(), Remedy: "correct the selector"}}
	}
	newest.Entry = entry
	newest.Problems = append(newest.Problems, overBudget(spec, entry, budgets)...)
	return newest
}
