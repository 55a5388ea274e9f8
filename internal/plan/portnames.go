package plan

import (
	"fmt"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// countedPods is how messages speak of numbers of pods. They come and go, so a message that differs in
// those alone is written late, as the numbers in status are (DiffStatus).
var countedPods = regexp.MustCompile(`(\d+ of )?the \d+ pods\b`)

func withoutCounts(message string) string { return countedPods.ReplaceAllString(message, "pods") }

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
func nobodyHas(name, group string, pods int, protocol corev1.Protocol) string {
	return fmt.Sprintf("targetPort %q is a name that none of the %d pods of group %q has among its container ports of protocol %s", name, pods, group, protocol)
}

// passedBy says, port by port, which pods are not behind it since they have no container port of its name.
func passedBy(o Outcome) []string {
	var out []string
	for i := range o.Served.Ports {
		port := &o.Served.Ports[i]
		for j := range o.Members {
			m := &o.Members[j]
			target, ok := TargetOf(port, m.Group)
			if !ok || target.Type != intstr.String {
				continue
			}
			if n := lacking(m, target.StrVal, protocolOf(port)); n > 0 {
				out = append(out, fmt.Sprintf("port %s leaves out %d of the %d pods of group %q: no container port named %q of protocol %s",
					titleOf(port), n, len(m.Pods), m.Group, target.StrVal, protocolOf(port)))
			}
		}
	}
	return out
}

// titleOf is what messages call a port.
func titleOf(port *v1alpha1.Port) string {
	title := fmt.Sprintf("%d/%s", port.Port, protocolOf(port))
	if port.Name != "" {
		title = fmt.Sprintf("%s (%s)", port.Name, title)
	}
	return title
}
