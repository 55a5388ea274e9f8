package integration

import (
	"encoding/json"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
)

var _ = Describe("An external group with a hostname", func() {
	It("follows its addresses, and keeps them while it cannot be looked up", func() {
		outside.name("follow.example", "192.0.2.42", "192.0.2.41", "10.0.0.1")
		sg := create("follow", external("hostname: follow.example"))
		Eventually(addressesOf("follow")).Should(Equal([]string{"db 192.0.2.41 rs", "db 192.0.2.42 rs"}))
		Eventually(resolvedRefs(sg)).Should(Equal("False AddressNotAllowed: group db: hostname follow.example leads to addresses that may not be served and are left out (1); " +
			"ask who runs the cluster to allow them with the manager's --external-ranges"))
		Expect(accepted(sg)(Default)).To(HavePrefix("True"))
		Expect(statusText(sg)).NotTo(ContainSubstring("10.0.0.1"))
		outside.name("follow.example", "192.0.2.42", "192.0.2.43")
		Eventually(addressesOf("follow")).Should(Equal([]string{"db 192.0.2.42 rs", "db 192.0.2.43 rs"}))
		Eventually(resolvedRefs(sg)).Should(Equal("True ResolvedRefs: every hostname is resolved"))

		outside.name("follow.example")
		const kept = "False HostnameNotResolved: group db: hostname follow.example is not resolved: the DNS servers fail; the addresses found last are served"
		Eventually(resolvedRefs(sg)).Should(Equal(kept))
		Expect(accepted(sg)(Default)).To(HavePrefix("True"))
		Expect(ready(sg)(Default)).To(Equal("True EndpointsReady: every port has a ready endpoint"))
		Expect(addressesOf("follow")(Default)).To(Equal([]string{"db 192.0.2.42 rs", "db 192.0.2.43 rs"}))

		By("over a restart too, without a write")
		quiet()
		stopManager()
		writes.reset()
		startManager(managerConfig)
		quiet()
		Expect(writes.in(namespace)).To(BeEmpty())
		Expect(resolvedRefs(sg)(Default)).To(Equal(kept))
		outside.name("follow.example", "192.0.2.44")
		Eventually(addressesOf("follow")).Should(Equal([]string{"db 192.0.2.44 rs"}))
		Eventually(resolvedRefs(sg)).Should(HavePrefix("True"))
	})

	It("never gets the addresses of another name, also over a restart", func() {
		outside.name("first.example", "192.0.2.51")
		sg := create("renamed", external("hostname: first.example"))
		Eventually(addressesOf("renamed")).Should(Equal([]string{"db 192.0.2.51 rs"}))
		respec(sg, external("hostname: nowhere.example"))
		Eventually(addressesOf("renamed")).Should(BeEmpty())
		Eventually(resolvedRefs(sg)).Should(Equal("False HostnameNotResolved: group db: hostname nowhere.example is not resolved: there is no such name, or no address of it is allowed"))
		Eventually(ready(sg)).Should(Equal("False NoReadyEndpoints: no ready endpoint for port sql (5432/TCP): " +
			"group db cannot look up nowhere.example: there is no such name, or no address of it is allowed"))
		Expect(accepted(sg)(Default)).To(HavePrefix("True"))

		respec(sg, external("hostname: first.example"))
		Eventually(addressesOf("renamed")).Should(Equal([]string{"db 192.0.2.51 rs"}))
		quiet()
		stopManager()
		respec(sg, external("hostname: second.example"))
		outside.name("second.example")
		startManager(managerConfig)
		Eventually(addressesOf("renamed")).Should(BeEmpty())
		outside.name("second.example", "192.0.2.52")
		Eventually(addressesOf("renamed")).Should(Equal([]string{"db 192.0.2.52 rs"}))

		By("nor those of the spec that it takes the place of")
		respec(sg, external("addresses: [192.0.2.53]"))
		Eventually(addressesOf("renamed")).Should(Equal([]string{"db 192.0.2.53 rs"}))
		Eventually(conditionsOf(sg)).ShouldNot(ContainElement("ResolvedRefs"))
		respec(sg, external("hostname: nowhere.example"))
		Eventually(addressesOf("renamed")).Should(BeEmpty())
	})

	It("keeps its addresses when the manager before did not record whose they are", func() {
		outside.name("upgraded.example", "192.0.2.61")
		create("upgraded", external("hostname: upgraded.example"))
		Eventually(addressesOf("upgraded")).Should(Equal([]string{"db 192.0.2.61 rs"}))
		quiet()
		stopManager()
		slice := &slicesOf(Default, "upgraded")[0]
		edit(slice, func(s *discoveryv1.EndpointSlice) { delete(s.Annotations, v1alpha1.AnnotationHostname) })
		outside.name("upgraded.example")
		startManager(managerConfig)
		Eventually(func(g Gomega) map[string]string { return slicesOf(g, "upgraded")[0].Annotations }).
			Should(HaveKeyWithValue(v1alpha1.AnnotationHostname, "upgraded.example"))
		quiet()
		Expect(addressesOf("upgraded")(Default)).To(Equal([]string{"db 192.0.2.61 rs"}))
	})

	It("that is forbidden tells nothing that one which does not exist does not", func() {
		outside.name("internal.example", "10.0.0.1", "127.0.0.1")
		internal := create("internal", external("hostname: internal.example"))
		nowhere := create("nowhere", external("hostname: nowhere.example"))
		Eventually(resolvedRefs(internal)).Should(HavePrefix("False HostnameNotResolved"))
		Eventually(resolvedRefs(nowhere)).Should(HavePrefix("False HostnameNotResolved"))
		quiet()
		own := strings.NewReplacer("internal", "NAME", "nowhere", "NAME")
		Expect(own.Replace(statusText(internal))).To(Equal(own.Replace(statusText(nowhere))))
		Expect(own.Replace(strings.Join(reasons(Default, "internal"), " "))).To(Equal(strings.Join(reasons(Default, "nowhere"), " ")))
	})

	It("is not looked up where nothing external is allowed", func() {
		stopManager()
		startManager(managerConfig, func(o *servicegroup.Options) { o.ExternalRanges = nil })
		DeferCleanup(func() {
			stopManager()
			startManager(managerConfig)
		})
		outside.name("forbidden.example", "192.0.2.99")
		sg := create("forbidden", external("hostname: forbidden.example"))
		Eventually(accepted(sg)).Should(Equal("False AddressNotAllowed: spec.groups[0].external.hostname: forbidden.example: not looked up, " +
			"since the manager allows no addresses outside the cluster; ask who runs the cluster to set the manager's --external-ranges. Everything else is served"))
		Expect(ready(sg)(Default)).To(HaveSuffix("group db has no address that may be served"))
		Expect(conditionsOf(sg)(Default)).NotTo(ContainElement("ResolvedRefs"))
		Consistently(func() bool { return outside.wasAsked("forbidden.example") }, "1s").Should(BeFalse())
	})

	It("is not looked up while the spec is not accepted", func() {
		outside.name("refused.example", "192.0.2.98")
		sg := create("unaccepted", "groups: [{name: db, external: {hostname: refused.example}}]\nports: [{port: 80, targetPort: web}]")
		Eventually(accepted(sg)).Should(HavePrefix("False InvalidSpec"))
		Consistently(func() bool { return outside.wasAsked("refused.example") }, "1s").Should(BeFalse())
	})
})

// resolvedRefs polls the condition ResolvedRefs.
func resolvedRefs(sg *v1alpha1.ServiceGroup) func(Gomega) string {
	return conditionOf(sg, v1alpha1.ConditionResolvedRefs)
}

// conditionsOf polls the types of all conditions.
func conditionsOf(sg *v1alpha1.ServiceGroup) func(Gomega) []string {
	return func(g Gomega) []string {
		var types []string
		for _, c := range statusOf(sg)(g).Conditions {
			types = append(types, c.Type)
		}
		return types
	}
}

// statusText is what a status tells that is no address, number or time given by the cluster.
func statusText(sg *v1alpha1.ServiceGroup) string {
	GinkgoHelper()
	status := statusOf(sg)(Default)
	status.ClusterIP, status.ClusterIPs = "", nil
	for i := range status.Conditions {
		status.Conditions[i].LastTransitionTime = metav1.Time{}
	}
	text, err := json.Marshal(status)
	Expect(err).NotTo(HaveOccurred())
	return string(text)
}
