package integration

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// A manager that was held up, by its node or its network, may go on for a moment after another took its
// lease.
var _ = Describe("Two managers that both think they lead", func() {
	It("end in one set of objects, and then write nothing", func() {
		first := stopManager
		startManager(managerConfig)
		second := stopManager
		DeferCleanup(func() {
			second()
			stopManager = first
		})

		const groups = 5
		pods := map[string]*corev1.Pod{}
		for _, name := range []string{"a", "b"} {
			pods[name] = runPod(podSpec{name: name, labels: map[string]string{"app": name}})
		}
		var all []*v1alpha1.ServiceGroup
		for i := range groups {
			all = append(all, create(numbered("web", i), "type: NodePort\n"+twoGroups))
		}
		type given struct {
			ip       string
			nodePort int32
		}
		had := map[string]given{}
		for _, sg := range all {
			Eventually(ready(sg)).Should(HavePrefix("True"))
			svc := service(Default, sg.Name)
			had[sg.Name] = given{svc.Spec.ClusterIP, svc.Spec.Ports[0].NodePort}
		}
		quiet()
		for _, sg := range all { // deleted, and back where it was
			Expect(k8s.Delete(ctx, service(Default, sg.Name))).To(Succeed())
		}
		for turn := range 4 {
			setReady(pods["a"], turn%2 == 1)
			for _, sg := range all {
				respec(sg, []string{"sessionAffinity: ClientIP\n", ""}[turn%2]+"type: NodePort\n"+twoGroups)
			}
		}
		for _, sg := range all {
			Eventually(endpointsOf(sg.Name)).Should(ConsistOf(at("a/http", pods["a"], 80, "rs"), at("b/http", pods["b"], 80, "rs")))
			Eventually(func(g Gomega) corev1.ServiceAffinity { return service(g, sg.Name).Spec.SessionAffinity }).
				Should(Equal(corev1.ServiceAffinityNone))
			Eventually(ready(sg)).Should(HavePrefix("True"))
		}
		quiet()
		for _, sg := range all {
			svc := service(Default, sg.Name)
			Expect(given{svc.Spec.ClusterIP, svc.Spec.Ports[0].NodePort}).To(Equal(had[sg.Name]))
			Expect(slicesOf(Default, sg.Name)).To(HaveLen(2), "one for each group")
		}
		writes.reset()
		Consistently(func() map[string]int { return writes.in(namespace) }).Should(BeEmpty())
	})
})
