package integration

import (
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

var _ = Describe("The type", func() {
	const rest = oneGroup + "ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]"
	specs := map[corev1.ServiceType]string{
		corev1.ServiceTypeClusterIP:    rest,
		corev1.ServiceTypeNodePort:     "type: NodePort\n" + rest,
		corev1.ServiceTypeLoadBalancer: "type: LoadBalancer\nloadBalancerClass: example.com/lb\n" + rest,
		corev1.ServiceTypeExternalName: "type: ExternalName\nexternalName: db.example.com\n" + rest,
	}
	const c, n, l, e = corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName

	// Every ordered pair of two types comes by once. The NodePorts stay as long as no ClusterIP is between,
	// as with a core Service; an ExternalName between does no harm.
	It("changes in every direction, and the virtual IP and the NodePorts stay", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("turn", specs[c])
		Eventually(ready(sg)).Should(HavePrefix("True"))
		first := service(Default, "turn")
		var numbers []int32 // the NodePorts since the last ClusterIP
		was := c
		for _, is := range []corev1.ServiceType{n, l, e, l, n, e, n, c, l, c, e, c} {
			By(fmt.Sprintf("from %s to %s", was, is))
			respec(sg, specs[is])
			Eventually(ready(sg)).Should(HavePrefix("True"))
			now := service(Default, "turn")
			Expect(now.UID).To(Equal(first.UID))
			Expect(now.Spec.Type).To(Equal(is))
			Expect(now.Spec.LoadBalancerClass != nil).To(Equal(is == l))
			status := statusOf(sg)(Default)
			if is == e {
				Expect(now.Spec.ClusterIPs).To(BeEmpty())
				Expect(slicesOf(Default, "turn")).To(BeEmpty())
				Expect(now.Labels).NotTo(HaveKey(v1alpha1.LabelServiceProxyName))
				Expect(status.PortSummary).To(BeEmpty())
				was = is
				continue
			}
			Expect(now.Spec.ClusterIPs).To(Equal(first.Spec.ClusterIPs))
			Expect(now.Labels).To(HaveKeyWithValue(v1alpha1.LabelServiceProxyName, v1alpha1.ServiceProxyName))
			Expect(endpoints(Default, "turn")).To(ConsistOf(at("a/dns", pod, 53, "rs"), at("a/http", pod, 80, "rs")))
			got := []int32{now.Spec.Ports[0].NodePort, now.Spec.Ports[1].NodePort}
			switch {
			case is == c:
				Expect(got).To(HaveEach(BeZero()))
				numbers = nil
			case numbers == nil:
				Expect(got).To(HaveEach(BeNumerically(">=", 30000)))
				numbers = got
			default:
				Expect(got).To(Equal(numbers))
			}
			Expect(strings.Count(status.PortSummary, ":")).To(Equal(len(numbers)))
			was = is
		}
		quiet()
	})
})

var _ = Describe("The address families", func() {
	const rest = oneGroup + "ports: [{name: http, port: 80}]"
	families := func(g Gomega, name string) []corev1.IPFamily { return service(g, name).Spec.IPFamilies }

	DescribeTable("come in the order asked for, and one can be given up and taken back", func(spec string, first, second corev1.IPFamily) {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("dual", spec+rest)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		before := service(Default, "dual")
		Expect(before.Spec.IPFamilies).To(Equal([]corev1.IPFamily{first, second}))
		addresses := func(g Gomega) []string {
			var out []string
			for _, slice := range slicesOf(g, "dual") {
				for _, endpoint := range slice.Endpoints {
					out = append(out, endpoint.Addresses...)
				}
			}
			return out
		}
		Expect(addresses(Default)).To(ConsistOf(pod.Status.PodIPs[0].IP, pod.Status.PodIPs[1].IP))

		respec(sg, fmt.Sprintf("ipFamilyPolicy: SingleStack\nipFamilies: [%s]\n", first)+rest)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Expect(families(Default, "dual")).To(Equal([]corev1.IPFamily{first}))
		Expect(service(Default, "dual").Spec.ClusterIPs).To(Equal(before.Spec.ClusterIPs[:1]))
		Eventually(addresses).Should(HaveLen(1))

		respec(sg, spec+rest)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Expect(families(Default, "dual")).To(Equal([]corev1.IPFamily{first, second}))
		Expect(service(Default, "dual").Spec.ClusterIPs[0]).To(Equal(before.Spec.ClusterIPs[0]))
		Eventually(addresses).Should(HaveLen(2))
		Eventually(func(g Gomega) []string { return statusOf(sg)(g).ClusterIPs }).Should(Equal(service(Default, "dual").Spec.ClusterIPs))
		quiet()
	},
		Entry("IPv4 first", "ipFamilyPolicy: RequireDualStack\nipFamilies: [IPv4, IPv6]\n", corev1.IPv4Protocol, corev1.IPv6Protocol),
		Entry("IPv6 first", "ipFamilyPolicy: PreferDualStack\nipFamilies: [IPv6, IPv4]\n", corev1.IPv6Protocol, corev1.IPv4Protocol),
	)

	It("cannot change their primary, which is a condition, and what was served goes on", func() {
		sg := create("primary", rest)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		before := service(Default, "primary")
		respec(sg, "ipFamilyPolicy: PreferDualStack\nipFamilies: [IPv6, IPv4]\n"+rest)
		Eventually(accepted(sg)).Should(And(HavePrefix("False"), ContainSubstring("ipFamilies"), HaveSuffix("goes on being served")))
		Expect(service(Default, "primary").Spec).To(Equal(before.Spec))
	})
})
