package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// Allocated are the addresses and numbers that an entry point has, or had before its Service was
// deleted or became an ExternalName. It comes back with these.
type Allocated struct {
	ClusterIPs          []string        `json:"clusterIPs,omitempty"`
	NodePorts           []AllocatedPort `json:"nodePorts,omitempty"`
	HealthCheckNodePort int32           `json:"healthCheckNodePort,omitempty"`
}

// AllocatedPort is a port with its nodePort.
type AllocatedPort struct {
	Port     int32           `json:"port"`
	Protocol corev1.Protocol `json:"protocol"`
	NodePort int32           `json:"nodePort"`
}

// AllocatedTo are the addresses and numbers of a Service. One that is only a name has none, and keeps
// the right to those it had.
func AllocatedTo(svc *corev1.Service, had Allocated) Allocated {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return had
	}
	out := Allocated{HealthCheckNodePort: svc.Spec.HealthCheckNodePort}
	if svc.Spec.ClusterIP != corev1.ClusterIPNone {
		out.ClusterIPs = slices.Clone(svc.Spec.ClusterIPs)
	}
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			out.NodePorts = append(out.NodePorts, AllocatedPort{Port: p.Port, Protocol: p.Protocol, NodePort: p.NodePort})
		}
	}
	slices.SortFunc(out.NodePorts, compareAllocated)
	return out
}

// AllocatedIn are the addresses and numbers that a status names. It counts where there is no accepted
// revision yet, as after an upgrade.
func AllocatedIn(status *v1alpha1.ServiceGroupStatus) Allocated {
	out := Allocated{HealthCheckNodePort: status.HealthCheckNodePort}
	if len(status.ClusterIPs) > 0 && status.ClusterIPs[0] != corev1.ClusterIPNone {
		out.ClusterIPs = slices.Clone(status.ClusterIPs)
	}
	for _, p := range status.Ports {
		if p.NodePort != 0 {
			out.NodePorts = append(out.NodePorts, AllocatedPort{Port: p.Port, Protocol: p.Protocol, NodePort: p.NodePort})
		}
	}
	slices.SortFunc(out.NodePorts, compareAllocated)
	return out
}

func compareAllocated(a, b AllocatedPort) int {
	if a.Port != b.Port {
		return int(a.Port) - int(b.Port)
	}
	return strings.Compare(string(a.Protocol), string(b.Protocol))
}

// Equal reports whether both are the same addresses and numbers.
func (a Allocated) Equal(b Allocated) bool {
	return a.HealthCheckNodePort == b.HealthCheckNodePort && slices.Equal(a.ClusterIPs, b.ClusterIPs) && slices.Equal(a.NodePorts, b.NodePorts)
}

// Has reports whether a number is one of the nodePorts.
func (a Allocated) Has(number int32) bool {
	return slices.ContainsFunc(a.NodePorts, func(p AllocatedPort) bool { return p.NodePort == number })
}

// nodePort is the nodePort of a port; 0 is none.
func (a Allocated) nodePort(port portNumber) int32 {
	for _, p := range a.NodePorts {
		if port == (portNumber{p.Port, p.Protocol}) {
			return p.NodePort
		}
	}
	return 0
}

// String lists addresses and ports as events name them.
func (a Allocated) String() string {
	ports := make([]v1alpha1.PortStatus, 0, len(a.NodePorts))
	for _, p := range a.NodePorts {
		ports = append(ports, v1alpha1.PortStatus{Port: p.Port, Protocol: p.Protocol, NodePort: p.NodePort})
	}
	parts := slices.Clone(a.ClusterIPs)
	if len(ports) > 0 {
		parts = append(parts, "ports "+PortSummary(ports))
	}
	return strings.Join(parts, ", ")
}

// lostTo lists what an entry point had, a spec leaves open, and it has no more; empty if there is nothing.
func (a Allocated) lostTo(now Allocated, spec *v1alpha1.ServiceGroupSpec) string {
	var lost Allocated
	for _, ip := range restorableClusterIPs(spec, a) {
		if !slices.Contains(now.ClusterIPs, ip) {
			lost.ClusterIPs = append(lost.ClusterIPs, ip)
		}
	}
	for i := range spec.Ports {
		port := portNumber{spec.Ports[i].Port, protocolOf(&spec.Ports[i])}
		if before := a.nodePort(port); before != 0 && spec.Ports[i].NodePort == 0 && GetsNodePorts(spec) && now.nodePort(port) != before {
			lost.NodePorts = append(lost.NodePorts, AllocatedPort{port.number, port.protocol, before})
		}
	}
	if len(lost.ClusterIPs) == 0 && len(lost.NodePorts) == 0 {
		return ""
	}
	return lost.String()
}

// AllocatedPatch is a JSON merge patch that records them on a ControllerRevision.
func AllocatedPatch(a Allocated) []byte {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{v1alpha1.AnnotationAllocated: a.encode()},
	}})
	if err != nil { // these types cannot fail
		panic(fmt.Sprintf("encoding allocated addresses: %v", err))
	}
	return patch
}
