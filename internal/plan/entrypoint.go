package plan

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// EntryPoint is a spec resolved: defaults filled in, selectors parsed, and for every port the groups
// it leads to. EndpointSlices are planned from it.
type EntryPoint struct {
	Groups []Group
	Ports  []Port
	// ExposeGroups asks for a Service per group.
	ExposeGroups bool
}

// Group is a group of an entry point.
type Group struct {
	v1alpha1.Group
	// Selects matches the pods of the group; that of an external group selects nothing.
	Selects labels.Selector
}

// Port is a port of an entry point, with its protocol.
type Port struct {
	Name        string
	Number      int32
	Protocol    corev1.Protocol
	AppProtocol *string
	// target is the port on the endpoints where a backend does not say otherwise.
	target intstr.IntOrString
	// targets are the ports on the endpoints of the groups that the port leads to; nil is target, in
	// every group.
	targets map[string]intstr.IntOrString
}

// Resolve resolves a spec. It fails on a selector that is not valid (Validate).
func Resolve(spec *v1alpha1.ServiceGroupSpec) (EntryPoint, error) {
	if isExternalName(spec) {
		return EntryPoint{}, nil // a name has no endpoints
	}
	out := EntryPoint{Groups: make([]Group, 0, len(spec.Groups)), Ports: resolvePorts(spec), ExposeGroups: spec.ExposeGroups}
	for i := range spec.Groups {
		selector, err := metav1.LabelSelectorAsSelector(spec.Groups[i].Selector)
		if err != nil {
			return EntryPoint{}, fmt.Errorf("parsing the selector of group %s: %w", spec.Groups[i].Name, err)
		}
		out.Groups = append(out.Groups, Group{Group: spec.Groups[i], Selects: selector})
	}
	return out, nil
}

func resolvePorts(spec *v1alpha1.ServiceGroupSpec) []Port {
	out := make([]Port, 0, len(spec.Ports))
	for i := range spec.Ports {
		out = append(out, resolvePort(&spec.Ports[i]))
	}
	return out
}

func resolvePort(port *v1alpha1.Port) Port {
	out := Port{
		Name: port.Name, Number: port.Port, Protocol: protocolOf(port), AppProtocol: port.AppProtocol, target: targetPortOf(port),
	}
	if len(port.Backends) == 0 {
		return out
	}
	out.targets = make(map[string]intstr.IntOrString, len(port.Backends))
	for _, backend := range port.Backends {
		target := out.target
		if backend.TargetPort != nil {
			target = *backend.TargetPort
		}
		out.targets[backend.Group] = target
	}
	return out
}

// Target is the port on the endpoints of a group, and whether the port leads to that group at all.
func (p *Port) Target(group string) (intstr.IntOrString, bool) {
	if p.targets == nil {
		return p.target, true
	}
	target, ok := p.targets[group]
	return target, ok
}

// Selectors are the selectors of the groups, in their order.
func (e EntryPoint) Selectors() []labels.Selector {
	selectors := make([]labels.Selector, 0, len(e.Groups))
	for i := range e.Groups {
		selectors = append(selectors, e.Groups[i].Selects)
	}
	return selectors
}

// has reports whether there is a group of that name.
func (e EntryPoint) has(group string) bool {
	return slices.ContainsFunc(e.Groups, func(g Group) bool { return g.Name == group })
}

// Exposes reports whether a group of that name is to have a Service of its own.
func (e EntryPoint) Exposes(group string) bool { return e.ExposeGroups && e.has(group) }

// Only is the entry point with one of its groups.
func (e EntryPoint) Only(group string) EntryPoint {
	out := EntryPoint{Ports: e.Ports}
	for i := range e.Groups {
		if e.Groups[i].Name == group {
			out.Groups = append(out.Groups, e.Groups[i])
		}
	}
	return out
}

// GroupsOf are the names of the groups a port leads to, in the order of the spec.
func (e EntryPoint) GroupsOf(port *Port) []string {
	var names []string
	for i := range e.Groups {
		if _, ok := port.Target(e.Groups[i].Name); ok {
			names = append(names, e.Groups[i].Name)
		}
	}
	return names
}

// Hostnames are the names of the external groups, each once.
func (e EntryPoint) Hostnames() []string {
	var names []string
	for i := range e.Groups {
		if external := e.Groups[i].External; external != nil && external.Hostname != "" {
			names = append(names, external.Hostname)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
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
