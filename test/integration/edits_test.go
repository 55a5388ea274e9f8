package integration

import (
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
)

var _ = Describe("A change of the spec", func() {
	const rest = oneGroup + "ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]"

	// Each entry goes from the plain spec to the one given and back, and keeps the cluster IP.
	DescribeTable("and back keeps the cluster IP", func(edited string, check func(*corev1.Service)) {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("edits", rest)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		before := service(Default, "edits")
		respec(sg, edited)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		check(service(Default, "edits"))
		respec(sg, rest)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		now := service(Default, "edits")
		Expect(now.Spec).To(Equal(before.Spec))
		Expect(now.UID).To(Equal(before.UID))
		Eventually(endpointsOf("edits")).Should(ConsistOf(at("a/http", pod, 80, "rs"), at("a/dns", pod, 53, "rs")))
		quiet()
	},
		Entry("type NodePort", "type: NodePort\n"+rest, func(s *corev1.Service) {
			Expect(s.Spec.Ports[0].NodePort).NotTo(BeZero())
		}),
		Entry("type LoadBalancer", "type: LoadBalancer\nexternalTrafficPolicy: Local\n"+rest, func(s *corev1.Service) {
			Expect(s.Spec.HealthCheckNodePort).NotTo(BeZero())
		}),
		Entry("session affinity", "sessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 7}}\n"+rest, func(s *corev1.Service) {
			Expect(*s.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds).To(BeEquivalentTo(7))
		}),
		Entry("internal traffic policy", "internalTrafficPolicy: Local\n"+rest, func(s *corev1.Service) {
			Expect(*s.Spec.InternalTrafficPolicy).To(Equal(corev1.ServiceInternalTrafficPolicyLocal))
		}),
		Entry("ports in another order, with one more", oneGroup+"ports: [{name: dns, port: 53, protocol: UDP}, {name: more, port: 81}, {name: http, port: 80}]", func(s *corev1.Service) {
			Expect(s.Spec.Ports).To(HaveLen(3))
		}),
		Entry("a port less", oneGroup+"ports: [{name: http, port: 80}]", func(s *corev1.Service) {
			Expect(s.Spec.Ports).To(HaveLen(1))
		}),
		Entry("names changed round", oneGroup+"ports: [{name: dns, port: 80}, {name: http, port: 53, protocol: UDP}]", func(s *corev1.Service) {
			Expect(s.Spec.Ports[0].Name).To(Equal("dns"))
		}),
	)

	It("of appProtocol reaches the Services and all of their slices", func() {
		runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		const with = "exposeGroups: true\n" + oneGroup + "ports: [{name: http, port: 80, appProtocol: PROTOCOL}]"
		sg := create("app", strings.Replace(with, "PROTOCOL", "http", 1))
		protocols := func(g Gomega) map[string]*string {
			found := map[string]*string{}
			for _, name := range []string{"app", "app-a"} {
				found["Service "+name] = service(g, name).Spec.Ports[0].AppProtocol
				for _, slice := range slicesOf(g, name) {
					g.Expect(slice.Ports).To(HaveLen(1))
					found["slice of "+name] = slice.Ports[0].AppProtocol
				}
			}
			g.Expect(found).To(HaveLen(4))
			return found
		}
		Eventually(protocols).Should(HaveEach(HaveValue(Equal("http"))))
		for _, to := range []string{"kubernetes.io/h2c", "example.com/own", "https"} {
			respec(sg, strings.Replace(with, "PROTOCOL", to, 1))
			Eventually(protocols).Should(HaveEach(HaveValue(Equal(to))))
		}
		respec(sg, strings.Replace(with, ", appProtocol: PROTOCOL", "", 1))
		Eventually(protocols).Should(HaveEach(BeNil()))
		quiet()
	})

	It("to two families and back adds an address and takes it away", func() {
		sg := create("families", rest)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		before := service(Default, "families")
		respec(sg, "ipFamilyPolicy: RequireDualStack\n"+rest)
		Eventually(func(g Gomega) []string { return service(g, "families").Spec.ClusterIPs }).Should(HaveLen(2))
		respec(sg, "ipFamilyPolicy: SingleStack\n"+rest)
		Eventually(func(g Gomega) []string { return service(g, "families").Spec.ClusterIPs }).Should(Equal(before.Spec.ClusterIPs))
		Eventually(func(g Gomega) int { return len(slicesOf(g, "families")) }).Should(Equal(1))
		Eventually(accepted(sg)).Should(HavePrefix("True"))
	})

	It("that asks for what it has, and then no longer, changes nothing", func() {
		sg := create("pin", "type: NodePort\n"+oneGroup+"ports: [{name: http, port: 80, nodePort: FREE}]")
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		before := service(Default, "pin")
		respec(sg, "type: NodePort\nclusterIP: "+before.Spec.ClusterIP+"\n"+oneGroup+"ports: [{name: http, port: 80, nodePort: FREE}]")
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		respec(sg, "type: NodePort\n"+oneGroup+"ports: [{name: http, port: 80}]")
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Expect(service(Default, "pin").Spec).To(Equal(before.Spec))
	})
})
