package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

var _ = Describe("Any sequence of edits", func() {
	const sequences, edits = 6, 6

	It("ends in the objects of a fresh ServiceGroup", func() {
		// ginkgo prints the seed, and --seed repeats it.
		chance := rand.New(rand.NewPCG(uint64(GinkgoRandomSeed()), 0))
		var pods []*corev1.Pod
		for i := range 4 {
			pods = append(pods, runPod(podSpec{name: numbered("pod", i), labels: map[string]string{"app": []string{"a", "b"}[i%2]}}))
		}
		for i := range sequences {
			name := numbered("edited", i)
			specs := []string{randomSpec(chance)}
			sg := create(name, specs[0])
			for range edits {
				if chance.IntN(2) == 0 {
					Eventually(accepted(sg)).ShouldNot(BeEmpty()) // else the next edit overtakes this one
				}
				specs = append(specs, randomSpec(chance))
				respec(sg, specs[len(specs)-1])
				pod := pods[chance.IntN(len(pods))]
				edit(pod, func(p *corev1.Pod) { p.Labels["app"] = []string{"a", "b", "c"}[chance.IntN(3)] })
				setReady(pod, chance.IntN(3) > 0)
			}
			story := "after " + strings.Join(specs, "\n---\n")
			fresh := create(numbered("fresh", i), specs[len(specs)-1])
			Eventually(accepted(fresh)).Should(HavePrefix("True"), story)
			Eventually(accepted(sg)).Should(HavePrefix("True"), story)
			Eventually(func(g Gomega) {
				g.Expect(portrait(g, name)).To(Equal(portrait(g, fresh.Name)))
			}).Should(Succeed(), story)
			Expect(k8s.Delete(ctx, sg)).To(Succeed())
			Expect(k8s.Delete(ctx, fresh)).To(Succeed())
		}
	})
})

// randomSpec is a spec that every other one may be changed into.
func randomSpec(chance *rand.Rand) string {
	pick := func(of ...string) string { return of[chance.IntN(len(of))] }
	kind := pick("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
	lines := []string{"type: " + kind, "groups: [{name: a, selector: {matchLabels: {app: a}}}, {name: b, selector: {matchExpressions: [{key: app, operator: In, values: [b, c]}]}}]"}
	if kind == "ExternalName" {
		return strings.Join(append(lines, "externalName: "+pick("one", "two")+".example.com"), "\n")
	}
	lines = append(lines,
		pick(
			"ports: [{name: http, port: 80}]",
			"ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}, {name: dns, port: 53, protocol: UDP}]",
			"ports: [{name: dns, port: 80}, {name: http, port: 81, backends: [{group: b, targetPort: 9090}]}]",
		),
		pick("", "sessionAffinity: ClientIP", "sessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 7}}"),
		pick("", "internalTrafficPolicy: Local"),
		pick("", "trafficDistribution: PreferSameZone", "trafficDistribution: PreferSameNode"),
		pick("", "publishNotReadyAddresses: true"),
		pick("", "dataplane: Cluster"),
		pick("", "exposeGroups: true"),
		pick("", "serviceMetadata: {labels: {team: blue}, annotations: {example.com/pool: red}}", "serviceMetadata: {labels: {tier: web}}"),
		pick("ipFamilyPolicy: SingleStack", "ipFamilyPolicy: PreferDualStack", "ipFamilyPolicy: RequireDualStack\nipFamilies: [IPv4, IPv6]",
			"ipFamilyPolicy: PreferDualStack\nipFamilies: [IPv4]"), // a Service keeps what it has without one
	)
	if kind != "ClusterIP" {
		lines = append(lines, pick("", "externalTrafficPolicy: Local"))
	}
	if kind == "LoadBalancer" {
		lines = append(lines, pick("", "allocateLoadBalancerNodePorts: false"), pick("", "loadBalancerSourceRanges: [192.0.2.0/24]"))
	}
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool { return line == "" }), "\n")
}

// portrait is everything that is written for a ServiceGroup but its name and the numbers allocated for it.
func portrait(g Gomega, name string) []string {
	var list corev1.ServiceList
	g.Expect(k8s.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.LabelServiceGroup: name})).To(Succeed())
	var lines []string
	for i := range list.Items {
		svc := &list.Items[i]
		spec, who := svc.Spec, strings.TrimPrefix(svc.Name, name)
		spec.ClusterIP, spec.ClusterIPs = "", nil
		spec.HealthCheckNodePort = min(spec.HealthCheckNodePort, 1)
		for j := range spec.Ports {
			spec.Ports[j].NodePort = min(spec.Ports[j].NodePort, 1)
		}
		slices.SortFunc(spec.Ports, func(a, b corev1.ServicePort) int { return int(a.Port - b.Port) })
		delete(svc.Labels, v1alpha1.LabelServiceGroup)
		lines = append(lines, fmt.Sprintf("Service %s: %s, %v, %v", who, spec.String(), svc.Labels, svc.Annotations))
		for _, slice := range slicesOf(g, svc.Name) {
			for _, e := range slice.Endpoints {
				for _, p := range slice.Ports {
					lines = append(lines, fmt.Sprintf("endpoint %s: %s %s %s %v:%d %s %s %s", who, slice.Labels[v1alpha1.LabelGroup],
						slice.Labels[v1alpha1.LabelServiceProxyName], *p.Name, e.Addresses, *p.Port, *p.Protocol, flags(e.Conditions), hintsOf(e)))
				}
			}
		}
	}
	slices.Sort(lines)
	return lines
}
