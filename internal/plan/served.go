package plan

import (
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// ErrNotServed says that a Service carries no served spec.
var ErrNotServed = errors.New("the Service has no annotation " + v1alpha1.AnnotationServed)

// Served is the part of a spec that EndpointSlices are built from. It travels on the generated
// Service, in one write with the Service's ports: whatever happens to a later spec, the Service and
// what is behind its ports stay two halves of the same thing.
type Served struct {
	Groups []v1alpha1.Group `json:"groups"`
	Ports  []v1alpha1.Port  `json:"ports"`
	// ExposeGroups asks for a Service per group.
	ExposeGroups bool `json:"exposeGroups,omitempty"`
}

// ServedOf is what a spec asks to be served.
func ServedOf(spec *v1alpha1.ServiceGroupSpec) Served {
	served := Served{Groups: make([]v1alpha1.Group, 0, len(spec.Groups)), Ports: make([]v1alpha1.Port, 0, len(spec.Ports))}
	if isExternalName(spec) {
		return served // a name has no endpoints
	}
	served.ExposeGroups = spec.ExposeGroups
	for i := range spec.Groups {
		served.Groups = append(served.Groups, *spec.Groups[i].DeepCopy())
	}
	for i := range spec.Ports {
		port := spec.Ports[i].DeepCopy()
		port.Protocol = protocolOf(port)
		port.NodePort = 0 // the Service has it
		served.Ports = append(served.Ports, *port)
	}
	return served
}

// ServedBy is what a generated Service was last applied from.
func ServedBy(svc *corev1.Service) (Served, error) {
	text, ok := svc.Annotations[v1alpha1.AnnotationServed]
	if !ok {
		return Served{}, ErrNotServed
	}
	var served Served
	if err := json.Unmarshal([]byte(text), &served); err != nil {
		return Served{}, fmt.Errorf("decoding annotation %s: %w", v1alpha1.AnnotationServed, err)
	}
	return served, nil
}

// encode is the value of the annotation. Marshalling these types cannot fail.
func (s Served) encode() string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("encoding the served spec: %v", err))
	}
	return string(text)
}

// Selectors are the parsed selectors of the groups, in their order; that of an external group selects
// nothing.
func (s Served) Selectors() ([]labels.Selector, error) {
	selectors := make([]labels.Selector, 0, len(s.Groups))
	for i := range s.Groups {
		selector, err := metav1.LabelSelectorAsSelector(s.Groups[i].Selector)
		if err != nil {
			return nil, fmt.Errorf("parsing the selector of group %s: %w", s.Groups[i].Name, err)
		}
		selectors = append(selectors, selector)
	}
	return selectors, nil
}

// has says whether there is a group of that name.
func (s Served) has(group string) bool {
	for i := range s.Groups {
		if s.Groups[i].Name == group {
			return true
		}
	}
	return false
}

// Only is what is served of one group.
func (s Served) Only(group string) Served {
	out := Served{Ports: s.Ports}
	for i := range s.Groups {
		if s.Groups[i].Name == group {
			out.Groups = append(out.Groups, s.Groups[i])
		}
	}
	return out
}

// GroupsOf are the names of the groups a port leads to, in the order of the spec.
func (s Served) GroupsOf(port *v1alpha1.Port) []string {
	var names []string
	for i := range s.Groups {
		if _, ok := TargetOf(port, s.Groups[i].Name); ok {
			names = append(names, s.Groups[i].Name)
		}
	}
	return names
}

// TargetOf is the port on the pods of a group, and whether the port leads to that group at all.
func TargetOf(port *v1alpha1.Port, group string) (intstr.IntOrString, bool) {
	target := targetPortOf(port)
	if len(port.Backends) == 0 {
		return target, true
	}
	for i := range port.Backends {
		if port.Backends[i].Group != group {
			continue
		}
		if port.Backends[i].TargetPort != nil {
			target = *port.Backends[i].TargetPort
		}
		return target, true
	}
	return intstr.IntOrString{}, false
}

// targetPortOf is the port on the pods where a backend does not say otherwise.
func targetPortOf(port *v1alpha1.Port) intstr.IntOrString {
	if port.TargetPort != nil {
		return *port.TargetPort
	}
	return intstr.FromInt32(port.Port)
}

func protocolOf(port *v1alpha1.Port) corev1.Protocol {
	if port.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return port.Protocol
}
