package integration

import (
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
)

// twoGroups is one port that leads to two groups.
const twoGroups = `
groups:
- {name: a, selector: {matchLabels: {app: a}}}
- {name: b, selector: {matchExpressions: [{key: app, operator: In, values: [b, bb]}]}}
ports:
- {name: http, port: 80}
`

var _ = Describe("Endpoints", func() {
	a, b := map[string]string{"app": "a"}, map[string]string{"app": "b"}

	It("resolve a named targetPort pod by pod", func() {
		old := runPod(podSpec{name: "old", labels: a, ports: map[string]int32{"web": 8080}})
		recent := runPod(podSpec{name: "recent", labels: a, ports: map[string]int32{"web": 9090}})
		runPod(podSpec{name: "without", labels: b})
		sg := create("named", `
groups:
- {name: a, selector: {matchLabels: {app: a}}}
- {name: b, selector: {matchLabels: {app: b}}}
ports:
- {name: http, port: 80, targetPort: web}
- {name: only-b, port: 81, targetPort: web, backends: [{group: b}]}
`)
		Eventually(endpointsOf("named")).Should(ConsistOf(at("a/http", old, 8080, "rs"), at("a/http", recent, 9090, "rs")))
		Eventually(ready(sg)).Should(Equal("False NoReadyEndpoints: no ready endpoint for port only-b (81/TCP): " +
			`targetPort "web" is a name that none of the 1 pods of group "b" has among its container ports of protocol TCP`))
		Expect(statusOf(sg)(Default).Groups).To(ContainElement(v1alpha1.GroupStatus{Name: "b", Matched: 1, Ready: 1}))

		By("counting again late, and in one write, when more pods lack the name")
		quiet()
		writes.reset()
		for i := range 11 {
			runPod(podSpec{name: numbered("without", i), labels: b})
		}
		Eventually(ready(sg)).Should(HaveSuffix(`none of the 12 pods of group "b" has among its container ports of protocol TCP`))
		Expect(writes.in(namespace)["servicegroups/status"]).To(BeNumerically("<=", 3))

		By("saying which pods are passed by when one has it")
		found := runPod(podSpec{name: "with", labels: b, ports: map[string]int32{"web": 7070}})
		Eventually(endpointsOf("named")).Should(ContainElements(at("b/http", found, 7070, "rs"), at("b/only-b", found, 7070, "rs")))
		left := `leaves out 12 of the 13 pods of group "b": no container port named "web" of protocol TCP`
		Eventually(ready(sg)).Should(Equal("True EndpointsReady: every port has a ready endpoint; port http (80/TCP) " + left + "; port only-b (81/TCP) " + left))
	})

	It("take the targetPort of the backend before that of the port", func() {
		podA := runPod(podSpec{name: "a", labels: a})
		podB := runPod(podSpec{name: "b", labels: b})
		create("per-backend", `
groups:
- {name: a, selector: {matchLabels: {app: a}}}
- {name: b, selector: {matchLabels: {app: b}}}
ports:
- {name: http, port: 80, targetPort: 8000, backends: [{group: a}, {group: b, targetPort: 9000}]}
- {name: admin, port: 81, protocol: UDP, backends: [{group: b}]}
`)
		Eventually(endpointsOf("per-backend")).Should(ConsistOf(
			at("a/http", podA, 8000, "rs"), at("b/http", podB, 9000, "rs"), at("b/admin", podB, 81, "rs")))
	})

	It("follow a pod from unready to ready to terminating to gone", func() {
		pod := runPod(podSpec{name: "a", labels: a, unready: true})
		sg := create("life", twoGroups)
		Eventually(endpointsOf("life")).Should(ConsistOf(at("a/http", pod, 80, "")))
		Eventually(ready(sg)).Should(Equal("False NoReadyEndpoints: no ready endpoint for port http (80/TCP): " +
			"group a has no ready pod, group b selects no pod"))
		Expect(statusOf(sg)(Default).GroupSummary).To(Equal("0/2"))

		setReady(pod, true)
		Eventually(endpointsOf("life")).Should(ConsistOf(at("a/http", pod, 80, "rs")))
		Eventually(ready(sg)).Should(HavePrefix("True EndpointsReady"))

		Expect(k8s.Delete(ctx, pod)).To(Succeed()) // kubelet is still at work on it
		Eventually(endpointsOf("life")).Should(ConsistOf(at("a/http", pod, 80, "st")))
		Eventually(ready(sg)).Should(HavePrefix("False NoReadyEndpoints"))

		Expect(k8s.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
		Eventually(endpointsOf("life")).Should(BeEmpty())
	})

	It("move with a pod that is relabelled from one group to another", func() {
		pod := runPod(podSpec{name: "mover", labels: a})
		create("move", twoGroups)
		Eventually(endpointsOf("move")).Should(ConsistOf(at("a/http", pod, 80, "rs")))
		edit(pod, func(p *corev1.Pod) { p.Labels = map[string]string{"app": "bb"} })
		Eventually(endpointsOf("move")).Should(ConsistOf(at("b/http", pod, 80, "rs")))
		edit(pod, func(p *corev1.Pod) { p.Labels = map[string]string{"app": "c"} })
		Eventually(endpointsOf("move")).Should(BeEmpty())
	})

	It("of a pod in two groups are in the slices of both", func() {
		pod := runPod(podSpec{name: "both", labels: map[string]string{"app": "a", "track": "canary"}})
		create("both", `
groups:
- {name: all, selector: {matchLabels: {app: a}}}
- {name: canary, selector: {matchExpressions: [{key: track, operator: Exists}]}}
ports:
- {name: http, port: 80}
`)
		Eventually(endpointsOf("both")).Should(ConsistOf(at("all/http", pod, 80, "rs"), at("canary/http", pod, 80, "rs")))
	})

	It("of groups that select by absence follow pods without the label", func() {
		create("absence", `
groups:
- {name: plain, selector: {matchExpressions: [{key: track, operator: DoesNotExist}]}}
ports:
- {port: 80}
`)
		Eventually(func(g Gomega) { service(g, "absence") }).Should(Succeed())
		pod := runPod(podSpec{name: "plain", labels: a})
		Eventually(endpointsOf("absence")).Should(ConsistOf(at("plain/", pod, 80, "rs")))
		edit(pod, func(p *corev1.Pod) { p.Labels["track"] = "canary" })
		Eventually(endpointsOf("absence")).Should(BeEmpty())
	})

	It("follow their pods while a finalizer holds a slice that was deleted", func() {
		// Nothing may wait for the end of such a slice: the time of this manager stands still.
		stopManager()
		startManager(managerConfig, func(o *servicegroup.Options) { o.Clock = clocktesting.NewFakePassiveClock(time.Now()) })
		DeferCleanup(func() {
			stopManager()
			startManager(managerConfig)
		})
		podA := runPod(podSpec{name: "a", labels: a})
		podB := runPod(podSpec{name: "b", labels: b})
		sg := create("held", twoGroups)
		Eventually(endpointsOf("held")).Should(ConsistOf(at("a/http", podA, 80, "rs"), at("b/http", podB, 80, "rs")))
		held := map[string]*discoveryv1.EndpointSlice{}
		for _, slice := range slicesOf(Default, "held") {
			edit(&slice, func(s *discoveryv1.EndpointSlice) { s.Finalizers = []string{"example.org/hold"} })
			held[slice.Name] = &slice
		}
		DeferCleanup(func() {
			for _, slice := range held {
				edit(slice, func(s *discoveryv1.EndpointSlice) { s.Finalizers = nil })
			}
		})
		others := func(g Gomega) []string {
			return endpointLines(slices.DeleteFunc(slicesOf(g, "held"), func(s discoveryv1.EndpointSlice) bool { return held[s.Name] != nil }))
		}

		By("replacing what somebody else deleted")
		for _, slice := range held {
			if slice.Labels[v1alpha1.LabelGroup] == "a" {
				Expect(k8s.Delete(ctx, slice)).To(Succeed())
			}
		}
		Eventually(others).Should(ConsistOf(at("a/http", podA, 80, "rs")))
		setReady(podA, false)
		Eventually(others).Should(ConsistOf(at("a/http", podA, 80, "")))

		By("going on after a deletion of its own")
		respec(sg, `
groups:
- {name: a, selector: {matchLabels: {app: a}}}
ports:
- {name: http, port: 80}
`)
		for _, slice := range held {
			Eventually(func(g Gomega) {
				g.Expect(k8s.Get(ctx, client.ObjectKeyFromObject(slice), slice)).To(Succeed())
				g.Expect(slice.DeletionTimestamp).NotTo(BeNil())
			}).Should(Succeed())
		}
		setReady(podA, true)
		Eventually(others).Should(ConsistOf(at("a/http", podA, 80, "rs")))
	})

	It("of a group taken out of the spec go with their slices", func() {
		podA := runPod(podSpec{name: "a", labels: a})
		podB := runPod(podSpec{name: "b", labels: b})
		sg := create("shrink", twoGroups)
		Eventually(endpointsOf("shrink")).Should(ConsistOf(at("a/http", podA, 80, "rs"), at("b/http", podB, 80, "rs")))
		respec(sg, `
groups:
- {name: a, selector: {matchLabels: {app: a}}}
ports:
- {name: http, port: 80}
`)
		Eventually(endpointsOf("shrink")).Should(ConsistOf(at("a/http", podA, 80, "rs")))
		Eventually(func(g Gomega) int { return len(slicesOf(g, "shrink")) }).Should(Equal(1))
		setReady(podB, false)
		Consistently(func(g Gomega) int { return len(slicesOf(g, "shrink")) }).Should(Equal(1))
	})

	It("of a dual-stack ServiceGroup are in slices of both families", func() {
		pod := runPod(podSpec{name: "a", labels: a})
		sg := create("dual", "ipFamilyPolicy: RequireDualStack\n"+twoGroups)
		Eventually(func(g Gomega) []string {
			var addresses []string
			for _, slice := range slicesOf(g, "dual") {
				for _, e := range slice.Endpoints {
					addresses = append(addresses, string(slice.AddressType)+" "+e.Addresses[0])
				}
			}
			return addresses
		}).Should(ConsistOf(
			string(discoveryv1.AddressTypeIPv4)+" "+pod.Status.PodIPs[0].IP,
			string(discoveryv1.AddressTypeIPv6)+" "+pod.Status.PodIPs[1].IP))
		Eventually(func(g Gomega) int { return len(statusOf(sg)(g).ClusterIPs) }).Should(Equal(2))
	})

	It("wait for the pod's node to exist, and take its zone", func() {
		pod := runPod(podSpec{name: "early", labels: a, node: "late-node"})
		sg := create("late", twoGroups)
		Eventually(ready(sg)).Should(HavePrefix("False NoReadyEndpoints"))
		Expect(endpoints(Default, "late")).To(BeEmpty())
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "late-node", Labels: map[string]string{corev1.LabelTopologyZone: "one"}}}
		Expect(k8s.Create(ctx, node)).To(Succeed())
		Eventually(endpointsOf("late")).Should(ConsistOf(at("a/http", pod, 80, "rs")))
		edit(node, func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = "two" })
		Eventually(func(g Gomega) string {
			for _, slice := range slicesOf(g, "late") {
				for _, e := range slice.Endpoints {
					return *e.Zone
				}
			}
			return ""
		}).Should(Equal("two"))
		Expect(k8s.Delete(ctx, node)).To(Succeed())
		Eventually(endpointsOf("late")).Should(BeEmpty())
	})

	It("leave out a pod whose address no slice may have, and serve the rest", func() {
		good := runPod(podSpec{name: "good", labels: a})
		runPod(podSpec{name: "bad", labels: a, ips: []string{"169.254.7.7"}})
		sg := create("address", twoGroups)
		Eventually(endpointsOf("address")).Should(ConsistOf(at("a/http", good, 80, "rs")))
		Eventually(ready(sg)).Should(Equal("True EndpointsReady: every port has a ready endpoint; " +
			"group a leaves out pods whose address no EndpointSlice may have (loopback, link-local, multicast)"))
		Expect(statusOf(sg)(Default).Groups[0]).To(Equal(v1alpha1.GroupStatus{Name: "a", Matched: 2, Ready: 1, LeftOut: 1}))
	})

	It("leave out a pod without an address of the family asked for, and say so", func() {
		runPod(podSpec{name: "four", labels: a, ips: []string{"10.244.200.1"}})
		sg := create("six", "ipFamilies: [IPv6]\n"+oneGroup+"ports: [{name: http, port: 80}]")
		Eventually(ready(sg)).Should(HavePrefix("False NoReadyEndpoints: no ready endpoint for port http (80/TCP): " +
			"no pod of group a has an address of a family of the entry point, IPv6"))
		Expect(statusOf(sg)(Default).Groups[0]).To(Equal(v1alpha1.GroupStatus{Name: "a", Matched: 1, LeftOut: 1}))
		runPod(podSpec{name: "both", labels: a})
		Eventually(ready(sg)).Should(Equal("True EndpointsReady: every port has a ready endpoint; " +
			"group a leaves out pods that have no address of a family of the entry point"))
	})
})
