package integration

import (
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var _ = Describe("A load balancer", func() {
	const rest = oneGroup + "ports: [{name: http, port: 80}]"

	It("has its class, source ranges and health-check port, and gives its status back", func() {
		sg := create("lb", "type: LoadBalancer\nexternalTrafficPolicy: Local\nhealthCheckNodePort: FREE\n"+
			"loadBalancerClass: example.com/internal\nloadBalancerSourceRanges: [192.0.2.0/24, '2001:db8::/32']\n"+rest)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		svc := service(Default, "lb")
		Expect(svc.Spec.LoadBalancerClass).To(HaveValue(Equal("example.com/internal")))
		Expect(svc.Spec.LoadBalancerSourceRanges).To(Equal([]string{"192.0.2.0/24", "2001:db8::/32"}))
		Expect(svc.Spec.HealthCheckNodePort).To(Equal(freePort()))
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.7", IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)}}
		Expect(k8s.Status().Update(ctx, svc)).To(Succeed())
		Eventually(func(g Gomega) corev1.LoadBalancerStatus { return statusOf(sg)(g).LoadBalancer }).Should(Equal(svc.Status.LoadBalancer))
		Expect(statusOf(sg)(Default).HealthCheckNodePort).To(Equal(freePort()))

		respec(sg, "type: LoadBalancer\nexternalTrafficPolicy: Local\nloadBalancerClass: example.com/other\n"+rest)
		Eventually(accepted(sg)).Should(And(HavePrefix("False Refused: spec.loadBalancerClass: "), ContainSubstring("may not change once set")))
		respec(sg, rest)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Eventually(func(g Gomega) { g.Expect(statusOf(sg)(g).LoadBalancer.Ingress).To(BeEmpty()) }).Should(Succeed())
		Expect(service(Default, "lb").Spec.ClusterIP).To(Equal(svc.Spec.ClusterIP))
	})

	It("gives up its NodePorts when it is to have none, and gets them again", func() {
		sg := create("lb", "type: LoadBalancer\n"+rest)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Expect(service(Default, "lb").Spec.Ports[0].NodePort).NotTo(BeZero())
		nodePort := func(g Gomega) int32 { return service(g, "lb").Spec.Ports[0].NodePort }
		respec(sg, "type: LoadBalancer\nallocateLoadBalancerNodePorts: false\n"+rest)
		Eventually(nodePort).Should(BeZero())
		Eventually(func(g Gomega) string { return statusOf(sg)(g).PortSummary }).Should(Equal("80/TCP"))
		quiet()
		respec(sg, "type: LoadBalancer\n"+rest)
		Eventually(nodePort).ShouldNot(BeZero())
	})

	It("comes back with the same health-check port", func() {
		sg := create("lb", "type: LoadBalancer\nexternalTrafficPolicy: Local\n"+rest)
		Eventually(func(g Gomega) int32 { return statusOf(sg)(g).HealthCheckNodePort }).ShouldNot(BeZero())
		before := service(Default, "lb")
		Expect(k8s.Delete(ctx, before)).To(Succeed())
		Eventually(func(g Gomega) corev1.ServiceSpec { return service(g, "lb").Spec }).Should(Equal(before.Spec))
	})

	It("whose health-check port is taken names the holder", func() {
		Expect(k8s.Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "holder", Namespace: namespace},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: takenPort()}}},
		})).To(Succeed())
		sg := create("lb", "type: LoadBalancer\nexternalTrafficPolicy: Local\nhealthCheckNodePort: TAKEN\n"+rest)
		Eventually(accepted(sg)).Should(Equal(fmt.Sprintf("False NodePortUnavailable: spec.healthCheckNodePort: %d: already held by Service %s/holder; "+
			"choose another number, or remove healthCheckNodePort to get a free one", takenPort(), namespace)))
	})
})

var _ = Describe("The generated Service", func() {
	const rest = oneGroup + "ports: [{name: http, port: 80}]"

	It("has the labels and annotations asked for, and loses those no longer asked for", func() {
		sg := create("meta", "serviceMetadata: {labels: {team: blue}, annotations: {example.com/pool: red}}\n"+rest)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		svc := service(Default, "meta")
		Expect(svc.Labels).To(HaveKeyWithValue("team", "blue"))
		Expect(svc.Annotations).To(HaveKeyWithValue("example.com/pool", "red"))
		edit(svc, func(s *corev1.Service) { s.Labels["team"], s.Labels["other"] = "green", "mine" })
		Eventually(func(g Gomega) map[string]string { return service(g, "meta").Labels }).Should(HaveKeyWithValue("team", "blue"))
		respec(sg, rest)
		Eventually(func(g Gomega) map[string]string { return service(g, "meta").Labels }).ShouldNot(HaveKey("team"))
		now := service(Default, "meta")
		Expect(now.Annotations).NotTo(HaveKey("example.com/pool"))
		Expect(now.Labels).To(HaveKeyWithValue("other", "mine"))
		respec(sg, "serviceMetadata: {labels: {net.servicegroup.dev/servicegroup: other}}\n"+rest)
		Eventually(accepted(sg)).Should(HavePrefix("False InvalidSpec: spec.serviceMetadata.labels: \"net.servicegroup.dev/servicegroup\": reserved; remove it"))
	})

	It("publishes pods that are not ready, also those whose node is unknown", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}, unready: true})
		lost := runPod(podSpec{name: "lost", labels: map[string]string{"app": "a"}, unready: true, node: "unknown"})
		sg := create("early", "publishNotReadyAddresses: true\n"+rest)
		Eventually(endpointsOf("early")).Should(ConsistOf(at("a/http", pod, 80, "r"), at("a/http", lost, 80, "r")))
		Eventually(ready(sg)).Should(HavePrefix("True"))
		respec(sg, rest)
		Eventually(endpointsOf("early")).Should(ConsistOf(at("a/http", pod, 80, "")))
		Eventually(ready(sg)).Should(HavePrefix("False NoReadyEndpoints"))
	})

	It("prefers the zone or the node as trafficDistribution says", func() {
		runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		runPod(podSpec{name: "b", labels: map[string]string{"app": "a"}})
		sg := create("near", "trafficDistribution: PreferSameZone\n"+rest)
		hints := func(g Gomega) []string {
			var out []string
			for _, slice := range slicesOf(g, "near") {
				for _, e := range slice.Endpoints {
					out = append(out, hintsOf(e))
				}
			}
			return out
		}
		Eventually(hints).Should(Equal([]string{"zone-a", "zone-a"}))
		respec(sg, "trafficDistribution: PreferSameNode\n"+rest)
		Eventually(hints).Should(Equal([]string{"zone-a node-1", "zone-a node-1"}))
		respec(sg, rest)
		Eventually(hints).Should(Equal([]string{"", ""}))
		quiet()
	})
})

// hintsOf are the zones and nodes an endpoint is meant for.
func hintsOf(e discoveryv1.Endpoint) string {
	var out []string
	if e.Hints == nil {
		return ""
	}
	for _, zone := range e.Hints.ForZones {
		out = append(out, zone.Name)
	}
	for _, node := range e.Hints.ForNodes {
		out = append(out, node.Name)
	}
	return strings.Join(out, " ")
}

var _ = DescribeTable("A field that does not go with the others is refused at once", func(spec, message string) {
	err := k8s.Create(ctx, parse("bad", spec), client.DryRunAll)
	Expect(err).To(MatchError(ContainSubstring(message)))
},
	Entry("source ranges without LoadBalancer", "type: NodePort\nloadBalancerSourceRanges: [192.0.2.0/24]\n"+oneGroup+"ports: [{port: 80}]", "need type: LoadBalancer"),
	Entry("class without LoadBalancer", "loadBalancerClass: x\n"+oneGroup+"ports: [{port: 80}]", "need type: LoadBalancer"),
	Entry("allocation without LoadBalancer", "allocateLoadBalancerNodePorts: false\n"+oneGroup+"ports: [{port: 80}]", "need type: LoadBalancer"),
	Entry("source range that is none", "type: LoadBalancer\nloadBalancerSourceRanges: [192.0.2.0]\n"+oneGroup+"ports: [{port: 80}]", "must be address ranges, such as 192.0.2.0/24"),
	Entry("healthCheckNodePort without Local", "type: LoadBalancer\nhealthCheckNodePort: 32000\n"+oneGroup+"ports: [{port: 80}]", "healthCheckNodePort needs type: LoadBalancer and externalTrafficPolicy: Local"),
	Entry("groups missing", "ports: [{port: 80}]", "groups is required"),
	Entry("ports missing", oneGroup, "ports is required, except with clusterIP None and with type ExternalName"),
	Entry("headless NodePort", "type: NodePort\nclusterIP: None\n"+oneGroup+"ports: [{port: 80}]", "clusterIP None means that there is no virtual IP"),
	Entry("headless and not", "clusterIPs: [None, 10.0.0.7]\n"+oneGroup+"ports: [{port: 80}]", "or None alone"),
	Entry("headless nodePort", "clusterIPs: [None]\n"+oneGroup+"ports: [{port: 80, nodePort: 30500}]", "which this type does not serve"),
	Entry("ExternalName without a name", "type: ExternalName", "externalName and type: ExternalName need each other"),
	Entry("a name without ExternalName", "externalName: example.com\n"+oneGroup+"ports: [{port: 80}]", "externalName and type: ExternalName need each other"),
	Entry("a name that is none", "type: ExternalName\nexternalName: 'a b'", "spec.externalName"),
	Entry("an address for a name", "type: ExternalName\nexternalName: 192.0.2.1", "must be a DNS name"),
	Entry("ExternalName with affinity", "type: ExternalName\nexternalName: example.com\nsessionAffinity: ClientIP", "remove sessionAffinity"),
	Entry("ExternalName with an address", "type: ExternalName\nexternalName: example.com\nclusterIP: None", "type ExternalName has no addresses and no pods"),
	Entry("ExternalName with a policy", "type: ExternalName\nexternalName: example.com\nexternalTrafficPolicy: Local", "needs an entry from outside"),
	Entry("ExternalName with a nodePort", "type: ExternalName\nexternalName: example.com\n"+oneGroup+"ports: [{port: 80, nodePort: 30500}]", "which this type does not serve"),
	Entry("trafficDistribution unknown", "trafficDistribution: Nearby\n"+oneGroup+"ports: [{port: 80}]", "Unsupported value"),
)
