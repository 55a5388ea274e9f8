package endpointslices

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// portSet are pods that have the same ports. A slice has one list of ports for all its endpoints.
type portSet struct {
	ports []discoveryv1.EndpointPort
	// signature identifies the ports, in whatever order.
	signature string
	pods      []*corev1.Pod
}

// namedPort is a port that pods name.
type namedPort struct {
	name     string
	protocol corev1.Protocol
}

// portSets puts the pods that can be endpoints, in the order of their names, into sets of the same
// ports. Numbers are the same on every pod; only what has a name is looked up on each, and a list of
// ports is made once for every set.
func portSets(g *Group) []*portSet {
	ports := g.Service.Spec.Ports
	named := namedTargets(ports)
	numbers := make([]int32, len(named))
	var key []byte
	known := map[string]*portSet{}
	var sets []*portSet
	for _, pod := range byName(g.Pods) {
		if !g.eligible(pod) {
			continue
		}
		lookUp(pod, named, numbers)
		key = key[:0]
		for _, number := range numbers {
			key = binary.LittleEndian.AppendUint32(key, uint32(number))
		}
		set := known[string(key)]
		if set == nil {
			set = newPortSet(ports, named, numbers)
			known[string(key)] = set
			sets = append(sets, set)
		}
		set.pods = append(set.pods, pod)
	}
	return sets
}

// eligible reports whether a pod can be an endpoint. One on a node that does not exist is what a
// deleted node leaves behind; with publishNotReadyAddresses it is one all the same.
func (g *Group) eligible(pod *corev1.Pod) bool {
	return pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed &&
		(g.Nodes[pod.Spec.NodeName] != nil || g.Service.Spec.PublishNotReadyAddresses)
}

// namedTargets numbers the ports that are known by a name.
func namedTargets(ports []corev1.ServicePort) map[namedPort]int {
	named := map[namedPort]int{}
	for i := range ports {
		if ports[i].TargetPort.Type != intstr.String {
			continue
		}
		target := namedPort{ports[i].TargetPort.StrVal, ports[i].Protocol}
		if _, known := named[target]; !known {
			named[target] = len(named)
		}
	}
	return named
}

// lookUp finds the numbers of named ports on a pod: on its containers, then on its sidecars. One that
// the pod does not have is 0.
func lookUp(pod *corev1.Pod, named map[namedPort]int, numbers []int32) {
	clear(numbers)
	if len(named) == 0 {
		return
	}
	look := func(container *corev1.Container) {
		for _, port := range container.Ports {
			if i, ok := named[namedPort{port.Name, port.Protocol}]; ok && numbers[i] == 0 {
				numbers[i] = port.ContainerPort
			}
		}
	}
	for i := range pod.Spec.Containers {
		look(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if ptr.Deref(pod.Spec.InitContainers[i].RestartPolicy, "") == corev1.ContainerRestartPolicyAlways {
			look(&pod.Spec.InitContainers[i])
		}
	}
}

func newPortSet(ports []corev1.ServicePort, named map[namedPort]int, numbers []int32) *portSet {
	set := &portSet{ports: make([]discoveryv1.EndpointPort, 0, len(ports))}
	for i := range ports {
		port := &ports[i]
		number := port.TargetPort.IntVal
		if port.TargetPort.Type == intstr.String {
			if number = numbers[named[namedPort{port.TargetPort.StrVal, port.Protocol}]]; number == 0 {
				continue
			}
		}
		set.ports = append(set.ports, discoveryv1.EndpointPort{
			Name: ptr.To(port.Name), Port: ptr.To(number), Protocol: ptr.To(port.Protocol), AppProtocol: port.AppProtocol,
		})
	}
	set.signature = signature(set.ports)
	return set
}

// signature identifies ports, in whatever order they are listed.
func signature(ports []discoveryv1.EndpointPort) string {
	lines := make([]string, 0, len(ports))
	for i := range ports {
		port := &ports[i]
		number := "-"
		if port.Port != nil {
			number = strconv.Itoa(int(*port.Port))
		}
		// A name or a protocol has no quote, and no slice of ours has a port without them.
		lines = append(lines, ptr.Deref(port.Name, `"`)+" "+number+" "+string(ptr.Deref(port.Protocol, `"`))+" "+ptr.Deref(port.AppProtocol, `"`))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
