package integration

import (
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

var _ = Describe("A headless ServiceGroup", func() {
	const ports = "ports: [{name: http, port: 80, targetPort: web}]"

	It("lists the pods of all groups, with the hostnames of a StatefulSet's", func() {
		named := map[string]int32{"web": 8080}
		first := runPod(podSpec{name: "db-0", labels: map[string]string{"app": "a"}, ports: named, hostname: "db-0", subdomain: "db"})
		other := runPod(podSpec{name: "db-1", labels: map[string]string{"app": "b"}, ports: named, hostname: "db-1", subdomain: "other", unready: true})
		sg := create("db", "clusterIP: None\npublishNotReadyAddresses: true\n"+
			"groups: [{name: a, selector: {matchLabels: {app: a}}}, {name: b, selector: {matchLabels: {app: b}}}]\n"+ports)
		Eventually(endpointsOf("db")).Should(ConsistOf(at("a/http", first, 8080, "rs"), at("b/http", other, 8080, "r")))
		Eventually(ready(sg)).Should(HavePrefix("True"))

		svc := service(Default, "db")
		Expect(svc.Spec.ClusterIP).To(Equal(corev1.ClusterIPNone))
		Expect(svc.Spec.IPFamilies).To(HaveLen(1))
		Expect(svc.Labels).NotTo(HaveKey(v1alpha1.LabelServiceProxyName))
		hostnames := map[string]string{}
		for _, slice := range slicesOf(Default, "db") {
			Expect(slice.Labels).To(HaveKey(corev1.IsHeadlessService))
			Expect(slice.Labels).NotTo(HaveKey(v1alpha1.LabelServiceProxyName))
			for _, e := range slice.Endpoints {
				hostnames[e.TargetRef.Name] = ptr.Deref(e.Hostname, "")
			}
		}
		Expect(hostnames).To(Equal(map[string]string{"db-0": "db-0", "db-1": ""}))
		Eventually(func(g Gomega) string { return statusOf(sg)(g).ClusterIP }).Should(Equal("None"))
		edit(&slicesOf(Default, "db")[0], func(s *discoveryv1.EndpointSlice) { delete(s.Labels, corev1.IsHeadlessService) })
		Eventually(func(g Gomega) bool {
			return slices.ContainsFunc(slicesOf(g, "db"), func(s discoveryv1.EndpointSlice) bool {
				_, ok := s.Labels[corev1.IsHeadlessService]
				return !ok
			})
		}).Should(BeFalse())
	})

	It("needs no ports", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}, unready: true})
		sg := create("bare", "clusterIP: None\nipFamilyPolicy: PreferDualStack\n"+oneGroup)
		Eventually(ready(sg)).Should(Equal("False NoReadyEndpoints: no ready endpoint for any group: group a has no ready pod"))
		setReady(pod, true)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		Expect(service(Default, "bare").Spec.Ports).To(BeEmpty())
		Expect(service(Default, "bare").Spec.IPFamilies).To(HaveLen(2))
		var addresses []string
		for _, slice := range slicesOf(Default, "bare") {
			Expect(slice.Ports).To(BeEmpty())
			addresses = append(addresses, slice.Endpoints[0].Addresses...)
		}
		Expect(addresses).To(ConsistOf(pod.Status.PodIPs[0].IP, pod.Status.PodIPs[1].IP))
	})

	It("does not get a virtual IP later, nor lose one", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("db", "clusterIP: None\n"+oneGroup+"ports: [{name: http, port: 80}]")
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		respec(sg, "type: NodePort\n"+oneGroup+"ports: [{name: http, port: 80}]")
		Eventually(accepted(sg)).Should(Equal("False ClusterIPUnavailable: spec.clusterIP: none given: a Service keeps its virtual IP, or stays without one, for life; " +
			"restore clusterIP: None, or delete the ServiceGroup and create it anew. What was served before goes on being served"))
		Expect(endpoints(Default, "db")).To(ConsistOf(at("a/http", pod, 80, "rs")))

		vip := create("vip", oneGroup+"ports: [{name: http, port: 80}]")
		Eventually(accepted(vip)).Should(HavePrefix("True"))
		before := service(Default, "vip")
		respec(vip, "clusterIP: None\n"+oneGroup+"ports: [{name: http, port: 80}]")
		Eventually(accepted(vip)).Should(HavePrefix("False ClusterIPUnavailable: spec.clusterIP: None: "))
		Expect(service(Default, "vip").Spec).To(Equal(before.Spec))
	})
})

var _ = Describe("An ExternalName", func() {
	const name = "type: ExternalName\nexternalName: db.example.com\n"

	It("is a Service with that name and nothing behind it", func() {
		sg := create("alias", name)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Eventually(ready(sg)).Should(Equal("True ExternalName: the name leads to db.example.com"))
		svc := service(Default, "alias")
		Expect(svc.Spec.ExternalName).To(Equal("db.example.com"))
		Expect(svc.Spec.Ports).To(BeEmpty())
		Expect(slicesOf(Default, "alias")).To(BeEmpty())
		Expect(svc.Labels).NotTo(HaveKey(v1alpha1.LabelServiceProxyName))
		quiet()
	})

	DescribeTable("can be another type for a while, and keeps the virtual IP of that", func(kind string) {
		rest := oneGroup + "ports: [{name: http, port: 80}]"
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("turn", kind+rest)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		before := service(Default, "turn")

		respec(sg, name+rest)
		Eventually(ready(sg)).Should(HavePrefix("True ExternalName"))
		Expect(service(Default, "turn").Spec.ClusterIP).To(BeEmpty())
		Expect(slicesOf(Default, "turn")).To(BeEmpty())
		status := statusOf(sg)(Default)
		Expect(status.ClusterIP).To(BeEmpty())
		Expect(status.PortSummary).To(BeEmpty())

		respec(sg, kind+rest)
		Eventually(ready(sg)).Should(HavePrefix("True EndpointsReady"))
		now := service(Default, "turn")
		Expect(now.UID).To(Equal(before.UID))
		Expect(now.Spec.ClusterIPs).To(Equal(before.Spec.ClusterIPs))
		Expect(now.Spec.ExternalName).To(BeEmpty())
		Expect(now.Spec.Ports).To(Equal(before.Spec.Ports), "with the same NodePorts")
		Expect(endpoints(Default, "turn")).To(ConsistOf(at("a/http", pod, 80, "rs")))
		quiet()
	},
		Entry("ClusterIP", ""),
		Entry("NodePort", "type: NodePort\nexternalTrafficPolicy: Local\n"),
		Entry("LoadBalancer", "type: LoadBalancer\nallocateLoadBalancerNodePorts: false\n"),
		Entry("dual-stack ClusterIP", "ipFamilyPolicy: RequireDualStack\n"),
	)

	It("can become headless, and a headless one gets a virtual IP by way of it", func() {
		sg := create("turn", "clusterIP: None\n"+oneGroup)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		respec(sg, name)
		Eventually(ready(sg)).Should(HavePrefix("True ExternalName"))
		respec(sg, oneGroup+"ports: [{port: 80}]")
		Eventually(accepted(sg)).Should(HavePrefix("True Accepted"))
		Expect(service(Default, "turn").Spec.ClusterIP).To(MatchRegexp(`^\d`))
		respec(sg, name)
		Eventually(ready(sg)).Should(HavePrefix("True ExternalName"))
		respec(sg, "clusterIP: None\n"+oneGroup)
		Eventually(accepted(sg)).Should(HavePrefix("True Accepted"))
		Expect(service(Default, "turn").Spec.ClusterIP).To(Equal("None"))
	})

	It("given up by the user comes back at another address when its own is taken", func() {
		rest := oneGroup + "ports: [{name: http, port: 80}]"
		sg := create("turn", rest)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		ip := service(Default, "turn").Spec.ClusterIP
		respec(sg, name)
		Eventually(ready(sg)).Should(HavePrefix("True ExternalName"))
		thief := create("thief", "clusterIP: "+ip+"\n"+rest)
		Eventually(accepted(thief)).Should(HavePrefix("True"))
		respec(sg, rest)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Expect(service(Default, "turn").Spec.ClusterIP).NotTo(Or(BeEmpty(), Equal(ip)))
		Eventually(func(g Gomega) []string { return reasons(g, "turn") }).Should(ContainElement("Warning AddressesChanged"))
	})
})
