package integration

import (
	"fmt"
	"slices"
	"strings"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// portrait is everything that is written for a ServiceGroup but its name, and the numbers and addresses
// allocated for it.
func portrait(g Gomega, sg *v1alpha1.ServiceGroup) []string {
	var list corev1.ServiceList
	g.Expect(k8s.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.LabelServiceGroup: sg.Name})).To(Succeed())
	lines := portraitOfStatus(g, sg)
	for i := range list.Items {
		svc := &list.Items[i]
		spec := svc.Spec
		spec.ClusterIP, spec.ClusterIPs = "", nil
		spec.HealthCheckNodePort = min(spec.HealthCheckNodePort, 1)
		for j := range spec.Ports {
			spec.Ports[j].NodePort = min(spec.Ports[j].NodePort, 1)
		}
		delete(svc.Annotations, v1alpha1.AnnotationRevision) // counts the specs that were accepted on the way
		slices.SortFunc(spec.Ports, func(a, b corev1.ServicePort) int { return int(a.Port - b.Port) })
		lines = append(lines, fmt.Sprintf("Service %s: %s, %v, %v", svc.Name, spec.String(), svc.Labels, svc.Annotations))
		for _, slice := range slicesOf(g, svc.Name) {
			var ports []string
			for _, p := range slice.Ports {
				ports = append(ports, p.String())
			}
			slices.Sort(ports)
			about := fmt.Sprintf("slice of %s: %s %v %v", svc.Name, slice.AddressType, slice.Labels, ports)
			lines = append(lines, about)
			for _, e := range slice.Endpoints {
				lines = append(lines, about+": "+e.String())
			}
		}
	}
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], sg.Name, "NAME")
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

func portraitOfStatus(g Gomega, sg *v1alpha1.ServiceGroup) []string {
	now := &v1alpha1.ServiceGroup{}
	g.Expect(k8s.Get(ctx, client.ObjectKeyFromObject(sg), now)).To(Succeed())
	status := &now.Status
	lines := []string{fmt.Sprint("status: ", status.ObservedGeneration == now.Generation, len(status.ClusterIPs),
		status.HealthCheckNodePort > 0, status.ExternalSummary, status.LoadBalancer, status.Groups, status.GroupSummary)}
	for _, p := range status.Ports {
		lines = append(lines, fmt.Sprint("status of port ", p.Name, p.Port, p.Protocol, p.NodePort > 0))
	}
	for _, c := range status.Conditions {
		lines = append(lines, fmt.Sprint("condition ", c.Type, c.Status, c.Reason, c.Message))
	}
	return lines
}
