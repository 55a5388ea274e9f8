package integration

import (
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
)

// nodePort is a line of a spec; a number can be had only once in a cluster.
var nodePort = regexp.MustCompile(`\n *nodePort: \d+`)

var _ = Describe("Writes", func() {
	It("are none when nothing changes, however often it looks", func() {
		runPod(podSpec{name: "frontend", labels: frontendLabels})
		guest := create("guestbook", nodePort.ReplaceAllString(guestbook, ""))
		dual := create("dual", "ipFamilyPolicy: PreferDualStack\ntype: LoadBalancer\nsessionAffinity: ClientIP\n"+
			"sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}\nexternalTrafficPolicy: Local\ninternalTrafficPolicy: Local\n"+twoGroups)
		empty := create("empty", twoGroups)
		Eventually(ready(guest)).Should(HavePrefix("False NoReadyEndpoints"))
		Eventually(ready(dual)).Should(HavePrefix("False NoReadyEndpoints"))
		Eventually(ready(empty)).Should(HavePrefix("False NoReadyEndpoints"))
		quiet()

		writes.reset()
		before := reconciliations()
		for i := range 20 {
			for _, name := range []string{"guestbook", "dual", "empty"} {
				edit(service(Default, name), func(s *corev1.Service) { s.Annotations["touch"] = strconv.Itoa(i) })
			}
		}
		Eventually(func() float64 { return reconciliations() - before }).Should(BeNumerically(">=", 20))
		Consistently(func() map[string]int { return writes.in(namespace) }).Should(BeEmpty())
	})

	// A manager resyncs every ten hours; here ten resyncs come in as many seconds.
	It("are none for 200 converged ServiceGroups, in ten resyncs of everything", func() {
		runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		runPod(podSpec{name: "unready", labels: map[string]string{"app": "b"}, unready: true})
		kinds := []string{
			"", "type: NodePort\n", "clusterIP: None\n", "dataplane: Cluster\n",
			"type: LoadBalancer\nallocateLoadBalancerNodePorts: false\nipFamilyPolicy: PreferDualStack\n",
		}
		var all []*v1alpha1.ServiceGroup
		for i := range 200 {
			all = append(all, create(numbered("calm", i), kinds[i%len(kinds)]+twoGroups))
		}
		for _, sg := range all {
			Eventually(ready(sg)).Should(HavePrefix("True"))
		}
		quiet()

		stopManager()
		writes.reset()
		before := reconciliations()
		often := servicegroup.CacheOptions()
		often.SyncPeriod = ptr.To(time.Second)
		startManagerOn(managerConfig, often)
		DeferCleanup(func() {
			stopManager()
			startManager(managerConfig)
		})
		Eventually(func() float64 { return reconciliations() - before }).WithTimeout(2 * time.Minute).
			Should(BeNumerically(">=", 11*len(all)))
		Expect(writes.everywhere()).To(BeEmpty())
	})

	It("of one pod's flip among 10,000 of one group are one slice", func() {
		const pods = 10_000
		first := runPod(podSpec{name: "pod-0", labels: map[string]string{"app": "a"}})
		var others sync.WaitGroup
		for worker := range 32 {
			others.Go(func() {
				defer GinkgoRecover()
				for i := 1 + worker; i < pods; i += 32 {
					runPod(podSpec{name: fmt.Sprintf("pod-%d", i), labels: map[string]string{"app": "a"}})
				}
			})
		}
		others.Wait()
		DeferCleanup(func() {
			Expect(k8s.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(namespace), client.GracePeriodSeconds(0))).To(Succeed())
		})
		sg := create("many", twoGroups)
		groupA := func(ready int32) []v1alpha1.GroupStatus {
			return []v1alpha1.GroupStatus{{Name: "a", Matched: pods, Ready: ready}, {Name: "b"}}
		}
		Eventually(func(g Gomega) []v1alpha1.GroupStatus { return statusOf(sg)(g).Groups }).
			WithTimeout(time.Minute).Should(Equal(groupA(pods)))
		addresses := map[string]bool{}
		for _, slice := range slicesOf(Default, "many") {
			Expect(len(slice.Endpoints)).To(BeNumerically("<=", 100))
			for _, endpoint := range slice.Endpoints {
				Expect(flags(endpoint.Conditions)).To(Equal("rs"))
				addresses[endpoint.Addresses[0]] = true
			}
		}
		Expect(addresses).To(HaveLen(pods))
		quiet()

		writes.reset()
		setReady(first, false)
		// The exact count follows in a write of its own, late, so that a thousand flips cost one.
		Eventually(func(g Gomega) []v1alpha1.GroupStatus { return statusOf(sg)(g).Groups }).Should(Equal(groupA(pods - 1)))
		Expect(endpoints(Default, "many")).To(ContainElement(at("a/http", first, 80, "")))
		Consistently(func() map[string]int { return writes.in(namespace) }).
			Should(Equal(map[string]int{"endpointslices": 1, "servicegroups/status": 1}))

		writes.reset()
		edit(first, func(p *corev1.Pod) { p.Annotations = map[string]string{"irrelevant": "change"} })
		Consistently(func() map[string]int { return writes.in(namespace) }).Should(BeEmpty())
	})

	It("of a new ServiceGroup are one Service, one slice per group and its status", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		known := create("known", twoGroups) // once it is ready, the manager knows the pod
		Eventually(ready(known)).Should(HavePrefix("True"))
		quiet()
		writes.reset()
		sg := create("fresh", twoGroups)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		Consistently(func() map[string]int { return writes.in(namespace) }).
			Should(Equal(map[string]int{"services": 1, "controllerrevisions": 1, "endpointslices": 2, "servicegroups/status": 1}))
		Expect(endpoints(Default, "fresh")).To(ConsistOf(at("a/http", pod, 80, "rs")))
	})

	It("of pods nobody selects are none, and wake nobody", func() {
		create("lonely", twoGroups)
		Eventually(func(g Gomega) int { return len(slicesOf(g, "lonely")) }).Should(Equal(2))
		quiet()
		before := reconciliations()
		pod := runPod(podSpec{name: "stranger", labels: map[string]string{"app": "stranger"}})
		setReady(pod, false)
		Consistently(func() float64 { return reconciliations() - before }).Should(BeZero())
	})

	It("of empty groups are one placeholder each", func() {
		create("placeholders", twoGroups)
		Eventually(func(g Gomega) []discoveryv1.EndpointSlice { return slicesOf(g, "placeholders") }).Should(HaveLen(2))
		for _, slice := range slicesOf(Default, "placeholders") {
			Expect(slice.Endpoints).To(BeEmpty())
		}
	})
})

// quiet waits until the manager has not written for a moment.
func quiet() {
	GinkgoHelper()
	last, still := -1.0, 0
	Eventually(func() int {
		now := reconciliations()
		if now != last {
			last, still = now, 0
		}
		still++
		return still
	}).Should(BeNumerically(">=", 30)) // 30 polls of 20 ms: longer than countRefresh
}
