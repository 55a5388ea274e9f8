package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// NodePortRange is the range of numbers that the operator gives to ports, both ends included. The
// zero value is no range: the API server chooses.
type NodePortRange struct {
	First, Last int32
}

// ParseNodePortRange reads a range such as 30000-32767; the empty text is no range.
func ParseNodePortRange(text string) (NodePortRange, error) {
	if text == "" {
		return NodePortRange{}, nil
	}
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		return NodePortRange{}, fmt.Errorf("%q is not a range of ports: write it as 30000-32767", text)
	}
	var ends [2]int32
	for i, end := range []string{first, last} {
		number, err := strconv.ParseUint(end, 10, 16)
		if err != nil || number == 0 {
			return NodePortRange{}, fmt.Errorf("%q is not a range of ports: %q is not a number from 1 to 65535", text, end)
		}
		ends[i] = int32(number)
	}
	if ends[0] > ends[1] {
		return NodePortRange{}, fmt.Errorf("%q is not a range of ports: its first port is above its last", text)
	}
	return NodePortRange{First: ends[0], Last: ends[1]}, nil
}

// Empty says that there is no range.
func (r NodePortRange) Empty() bool { return r == NodePortRange{} }

// Size is how many numbers the range has.
func (r NodePortRange) Size() int32 {
	if r.Empty() {
		return 0
	}
	return r.Last - r.First + 1
}

func (r NodePortRange) String() string {
	if r.Empty() {
		return ""
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// NodePortRequest is a ServiceGroup whose ports need NodePorts, and what is known of them.
type NodePortRequest struct {
	// Group is the ServiceGroup, and Had what its entry point had.
	Group *v1alpha1.ServiceGroup
	Had   Allocated
	// Live is the generated Service as it is; nil when there is none.
	Live *corev1.Service
	// Range is where new numbers come from.
	Range NodePortRange
	// Taken are the numbers that others hold, as far as known. What
	// Live has, and what the spec asks for, is its own whatever this says.
	Taken map[int32]bool
	// Refused are numbers that the API server did not give to this ServiceGroup just now.
	Refused map[int32]bool
}

// NodePorts gives every port of a ServiceGroup that needs one a NodePort: the result is the
// ServiceGroup with all of them in its spec, or the ServiceGroup itself if none needs any. It never
// moves a port. In this order a port gets
//
//  1. the number its spec asks for;
//  2. the number the Service has, or the one it had before somebody else wrote another;
//  3. the number it had, after the Service was deleted;
//  4. the number of a port with the same port number and another protocol: the API server counts
//     numbers, not pairs of number and protocol, and lets those ports of one Service share one
//     (registry/core/service/storage/alloc.go, initNodePorts);
//  5. the first free number on the way of its probes through the range. The way depends on namespace,
//     name and port name only, so the same manifest gets the same numbers in every cluster where
//     they are free, and again after it was deleted.
//
// The error says that the range has no free number left.
func NodePorts(req NodePortRequest) (*v1alpha1.ServiceGroup, error) {
	if req.Range.Empty() || !GetsNodePorts(&req.Group.Spec) {
		return req.Group, nil
	}
	a := nodePortAssignment{req: req, out: req.Group.DeepCopy(), used: map[int32][]portNumber{}, byPort: map[int32]int32{}}
	for _, step := range []struct {
		number func(*v1alpha1.Port) int32
		exists bool
	}{{a.explicit, true}, {a.live, true}, {a.remembered, false}, {a.shared, false}} {
		for _, i := range a.inOrder() {
			a.give(i, step.number(&a.out.Spec.Ports[i]), step.exists)
		}
	}
	for _, i := range a.inOrder() {
		port := &a.out.Spec.Ports[i]
		a.give(i, a.shared(port), false) // of a port that was probed for
		if port.NodePort != 0 {
			continue
		}
		number := a.probe(port)
		if number == 0 {
			return nil, &NodePortsFullError{Field: fmt.Sprintf("spec.ports[%d].nodePort", i), Range: req.Range}
		}
		a.give(i, number, false)
	}
	return a.out, nil
}

type nodePortAssignment struct {
	req NodePortRequest
	out *v1alpha1.ServiceGroup
	// used are the ports that got a number so far, byPort the number of each port number.
	used   map[int32][]portNumber
	byPort map[int32]int32
}

// inOrder are the indexes of the ports in an order that depends on the ports alone: who edits the
// order of the list gets the same numbers.
func (a *nodePortAssignment) inOrder() []int {
	ports := a.out.Spec.Ports
	order := make([]int, len(ports))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int {
		return cmp.Or(cmp.Compare(ports[x].Port, ports[y].Port), cmp.Compare(rank(&ports[x]), rank(&ports[y])))
	})
	return order
}

// rank puts TCP first: of ports that share a number, its name decides.
func rank(port *v1alpha1.Port) int {
	return slices.Index([]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}, protocolOf(port))
}

// give gives a number to a port; 0 is no number. Two ports may have one number if their protocols
// differ, and unless the Service has it so already, only if their port number is the same: the API
// server refuses anything else when the Service is created.
func (a *nodePortAssignment) give(i int, number int32, exists bool) {
	port := &a.out.Spec.Ports[i]
	if number == 0 || port.NodePort != 0 && port.NodePort != number {
		return
	}
	key := portNumber{port.Port, protocolOf(port)}
	for _, other := range a.used[number] {
		if other.protocol == key.protocol || other.number != key.number && !exists {
			return
		}
	}
	port.NodePort = number
	a.used[number] = append(a.used[number], key)
	if a.byPort[port.Port] == 0 {
		a.byPort[port.Port] = number
	}
}

func (a *nodePortAssignment) explicit(port *v1alpha1.Port) int32 { return port.NodePort }

// live is the number the Service has. If that is not of our making and the entry point had another,
// it was edited, and the one before is right.
func (a *nodePortAssignment) live(port *v1alpha1.Port) int32 {
	if a.req.Live == nil {
		return 0
	}
	for _, p := range a.req.Live.Spec.Ports {
		if p.Port != port.Port || p.Protocol != protocolOf(port) {
			continue
		}
		before := a.req.Had.nodePort(portNumber{port.Port, protocolOf(port)})
		if before != 0 && before != p.NodePort && !a.req.Refused[before] && !ownsNodePort(a.req.Live, p) {
			return before
		}
		if a.req.Refused[p.NodePort] {
			return 0
		}
		return p.NodePort
	}
	return 0
}

func (a *nodePortAssignment) remembered(port *v1alpha1.Port) int32 {
	number := a.req.Had.nodePort(portNumber{port.Port, protocolOf(port)})
	if a.req.Refused[number] {
		return 0
	}
	return number
}

// shared is the number of a port with the same port number and another protocol. One that was just
// refused is the number of an explicit port, and goes with the whole Service.
func (a *nodePortAssignment) shared(port *v1alpha1.Port) int32 { return a.byPort[port.Port] }

// probe walks through the whole range from a start and with a step that are functions of the port's
// names alone, and returns the first number that is free, 0 if none is. A step that has no divisor in
// common with the size of the range comes by every number once.
func (a *nodePortAssignment) probe(port *v1alpha1.Port) int32 {
	size := uint64(a.req.Range.Size())
	sum := sha256.Sum256([]byte(a.out.Namespace + "/" + a.out.Name + "/" + port.Name))
	at, step := binary.BigEndian.Uint64(sum[:8])%size, 1+binary.BigEndian.Uint64(sum[8:16])%size
	for gcd(step, size) != 1 {
		step++
	}
	for range size {
		number := a.req.Range.First + int32(at)
		if !a.req.Taken[number] && len(a.used[number]) == 0 && !a.req.Refused[number] && !a.checksHealth(number) {
			return number
		}
		at = (at + step) % size
	}
	return 0
}

// checksHealth says whether a number is the ServiceGroup's own healthCheckNodePort.
func (a *nodePortAssignment) checksHealth(number int32) bool {
	sg, live := a.req.Group, a.req.Live
	return number == sg.Spec.HealthCheckNodePort || number == a.req.Had.HealthCheckNodePort ||
		live != nil && number == live.Spec.HealthCheckNodePort
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// ownsNodePort says whether the last apply of ours wrote the nodePort that a port has.
func ownsNodePort(live *corev1.Service, port corev1.ServicePort) bool {
	owned, err := corev1ac.ExtractService(live, v1alpha1.ManagedBy)
	if err != nil || owned.Spec == nil {
		return false
	}
	for i := range owned.Spec.Ports {
		p := &owned.Spec.Ports[i]
		if p.Port != nil && *p.Port == port.Port && p.Protocol != nil && *p.Protocol == port.Protocol {
			return p.NodePort != nil && *p.NodePort == port.NodePort
		}
	}
	return false
}

// NodePortsFullError says that no number of the range is free.
type NodePortsFullError struct {
	// Field is the port that gets none.
	Field string
	Range NodePortRange
}

func (e *NodePortsFullError) Error() string {
	return fmt.Sprintf("%s: no number of --node-port-range=%s is free; ask who runs the cluster to widen the range, or name a nodePort outside of it", e.Field, e.Range)
}
