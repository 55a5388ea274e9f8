package plan

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// pods speaks of a number of pods. They come and go, so a message that differs in those alone is
// written late, as the numbers in status are (DiffStatus).
func (o *Outcome) pods(n int) string {
	if o.coarse {
		return "pods"
	}
	return fmt.Sprintf("%d pods", n)
}

// podsOf speaks of a part of the pods.
func (o *Outcome) podsOf(part, all int) string {
	if o.coarse {
		return "some of the pods"
	}
	return fmt.Sprintf("%d of the %d pods", part, all)
}

// lacking counts the pods of a group that have no container port of a name; they are not behind a port
// whose targetPort is that name.
func lacking(m *Membership, name string, protocol corev1.Protocol) int {
	n := 0
	for _, pod := range m.Pods {
		if !hasNamedPort(pod, name, protocol) {
			n++
		}
	}
	return n
}

// hasNamedPort looks where k8s.io/endpointslice does: in containers, and in sidecars.
func hasNamedPort(pod *corev1.Pod, name string, protocol corev1.Protocol) bool {
	named := func(p corev1.ContainerPort) bool { return p.Name == name && p.Protocol == protocol }
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return slices.ContainsFunc(c.Ports, named) }) ||
		slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool {
			sidecar := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
			return sidecar && slices.ContainsFunc(c.Ports, named)
		})
}

// nobodyHas says that no pod of a group has the name that a port asks for.
func nobodyHas(name, group, pods string, protocol corev1.Protocol) string {
	return fmt.Sprintf("targetPort %q is a name that none of the %s of group %q has among its container ports of protocol %s", name, pods, group, protocol)
}

// passedBy says, port by port, which pods are not behind it since they have no container port of its name.
func passedBy(o Outcome) []string {
	var out []string
	for i := range o.Entry.Ports {
		port := &o.Entry.Ports[i]
		for j := range o.Members {
			m := &o.Members[j]
			target, ok := port.Target(m.Group)
			if !ok || target.Type != intstr.String {
				continue
			}
			if n := lacking(m, target.StrVal, port.Protocol); n > 0 {
				out = append(out, fmt.Sprintf("port %s leaves out %s of group %q: no container port named %q of protocol %s",
					titleOf(port), o.podsOf(n, len(m.Pods)), m.Group, target.StrVal, port.Protocol))
			}
		}
	}
	return out
}

// titleOf is what messages call a port.
func titleOf(port *Port) string {
	title := fmt.Sprintf("%d/%s", port.Number, port.Protocol)
	if port.Name != "" {
		title = fmt.Sprintf("%s (%s)", port.Name, title)
	}
	return title
}
