package integration

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

var _ = Describe("A restart", func() {
	var pod *corev1.Pod
	BeforeEach(func() {
		pod = runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
	})

	It("writes nothing when nothing changed meanwhile", func() {
		runPod(podSpec{name: "unready", labels: map[string]string{"app": "a"}, unready: true})
		sg := create("calm", "ipFamilyPolicy: PreferDualStack\ntype: NodePort\nexposeGroups: true\n"+twoGroups)
		others := []*v1alpha1.ServiceGroup{
			create("headless", "clusterIP: None\n"+twoGroups),
			create("alias", "type: ExternalName\nexternalName: example.com"),
			create("cluster", "dataplane: Cluster\ntype: LoadBalancer\nexternalTrafficPolicy: Local\nloadBalancerSourceRanges: [192.0.2.0/24]\n"+
				"allocateLoadBalancerNodePorts: false\nserviceMetadata: {labels: {team: blue}}\npublishNotReadyAddresses: true\n"+twoGroups),
		}
		for _, other := range others {
			Eventually(ready(other)).Should(HavePrefix("True"))
		}
		bad := create("bad", "groups: [{name: a, selector: {matchExpressions: [{key: app, operator: In}]}}]\nports: [{port: 80}]")
		Eventually(ready(sg)).Should(HavePrefix("True"))
		Eventually(accepted(bad)).Should(HavePrefix("False"))
		Eventually(func(g Gomega) []v1alpha1.GroupStatus { return statusOf(sg)(g).Groups }).
			Should(ContainElement(v1alpha1.GroupStatus{Name: "a", Matched: 2, Ready: 1}))
		quiet()

		stopManager()
		writes.reset()
		before := reconciliations()
		startManager(managerConfig)
		Eventually(func() float64 { return reconciliations() - before }).Should(BeNumerically(">=", 5))
		quiet()
		Expect(writes.in(namespace)).To(BeEmpty())
	})

	It("catches up with what changed meanwhile", func() {
		create("busy", twoGroups)
		Eventually(endpointsOf("busy")).Should(ConsistOf(at("a/http", pod, 80, "rs")))
		stopManager()
		setReady(pod, false)
		more := runPod(podSpec{name: "b", labels: map[string]string{"app": "b"}})
		edit(service(Default, "busy"), func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "a"} })
		startManager(managerConfig)
		Eventually(endpointsOf("busy")).Should(ConsistOf(at("a/http", pod, 80, ""), at("b/http", more, 80, "rs")))
		Eventually(func(g Gomega) map[string]string { return service(g, "busy").Spec.Selector }).Should(BeEmpty())
	})

	It("goes on maintaining what was served before a refused spec", func() {
		sg := create("refused", oneGroup+"ports: [{name: http, port: 80}]")
		Eventually(ready(sg)).Should(HavePrefix("True"))
		respec(sg, "clusterIP: 192.168.7.7\ngroups: [{name: b, selector: {matchLabels: {app: b}}}]\nports: [{name: http, port: 80, targetPort: 81}]")
		Eventually(accepted(sg)).Should(HavePrefix("False ClusterIPUnavailable"))
		stopManager()
		startManager(managerConfig)
		setReady(pod, false)
		Eventually(endpointsOf("refused")).Should(ConsistOf(at("a/http", pod, 80, "")))
		more := runPod(podSpec{name: "more", labels: map[string]string{"app": "a"}})
		Eventually(endpointsOf("refused")).Should(ConsistOf(at("a/http", pod, 80, ""), at("a/http", more, 80, "rs")))
	})
})

var _ = Describe("A refused spec", func() {
	const spec, refused = oneGroup + "ports: [{name: http, port: 80}]",
		"groups: [{name: a, selector: {matchExpressions: [{key: app, operator: In}]}}]\nports: [{port: 80}]"

	DescribeTable("leaves what was accepted in place", func(harm func(*corev1.Service), restart bool) {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("kept", "type: NodePort\n"+spec)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		svc := service(Default, "kept")
		respec(sg, refused)
		Eventually(accepted(sg)).Should(HavePrefix("False InvalidSpec"))
		if restart {
			stopManager()
		}
		harm(service(Default, "kept"))
		if restart {
			startManager(managerConfig)
		}
		Eventually(func(g Gomega) {
			now := service(g, "kept")
			g.Expect(now.Spec).To(Equal(svc.Spec))
			g.Expect(now.Annotations).To(Equal(svc.Annotations))
			g.Expect(endpoints(g, "kept")).To(ConsistOf(at("a/http", pod, 80, "rs")))
		}).MustPassRepeatedly(3).Should(Succeed())
		Expect(accepted(sg)(Default)).To(HavePrefix("False InvalidSpec"))
		more := runPod(podSpec{name: "more", labels: map[string]string{"app": "a"}})
		Eventually(endpointsOf("kept")).Should(ConsistOf(at("a/http", pod, 80, "rs"), at("a/http", more, 80, "rs")))
		respec(sg, "type: NodePort\n"+spec)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Expect(service(Default, "kept").Spec).To(Equal(svc.Spec))
	},
		Entry("although somebody edits the Service", func(svc *corev1.Service) {
			edit(svc, func(s *corev1.Service) {
				s.Spec.Ports[0].TargetPort.IntVal, s.Spec.Selector = 666, map[string]string{"app": "other"}
				s.Annotations[v1alpha1.AnnotationRevision] = "kept-7"
			})
		}, false),
		Entry("although somebody deletes the Service", func(svc *corev1.Service) { Expect(k8s.Delete(ctx, svc)).To(Succeed()) }, false),
		Entry("although the Service is edited while the manager is down", func(svc *corev1.Service) {
			edit(svc, func(s *corev1.Service) { s.Spec.Ports[0].TargetPort.IntVal, s.Annotations = 666, nil })
		}, true),
		Entry("although the Service is deleted while the manager is down", func(svc *corev1.Service) { Expect(k8s.Delete(ctx, svc)).To(Succeed()) }, true),
	)

	It("leaves the slices as they are when somebody who may also deletes its revisions", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("record", spec)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		Eventually(revisionsOf("record")).Should(HaveLen(1))
		respec(sg, refused)
		Eventually(accepted(sg)).Should(HavePrefix("False InvalidSpec"))
		stopManager()
		Expect(k8s.DeleteAllOf(ctx, &appsv1.ControllerRevision{}, client.InNamespace(namespace))).To(Succeed())
		startManager(managerConfig)
		Eventually(ready(sg)).Should(HavePrefix("Unknown NotAccepted: no ControllerRevision"))
		Consistently(endpointsOf("record")).Should(ConsistOf(at("a/http", pod, 80, "rs")))
		Expect(statusOf(sg)(Default).GroupSummary).To(Equal("1/1"))
		respec(sg, spec)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		Eventually(revisionsOf("record")).Should(HaveLen(1))
	})

	It("by quota is a condition, and heals", func() {
		quota := &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Name: "none", Namespace: namespace},
			Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceServices: *quantity(0)}},
		}
		Expect(k8s.Create(ctx, quota)).To(Succeed())
		quota.Status = corev1.ResourceQuotaStatus{Hard: quota.Spec.Hard, Used: corev1.ResourceList{corev1.ResourceServices: *quantity(0)}}
		Expect(k8s.Status().Update(ctx, quota)).To(Succeed())
		Eventually(func() error { // until the API server knows the quota
			return k8s.Create(ctx, &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-", Namespace: namespace},
				Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
			}, client.DryRunAll)
		}).Should(MatchError(ContainSubstring("exceeded quota")))
		sg := create("quota", twoGroups)
		Eventually(accepted(sg)).Should(And(HavePrefix("False Refused: the API server refuses the Service: "), ContainSubstring("exceeded quota: none")))
		Expect(k8s.Delete(ctx, quota)).To(Succeed())
		Eventually(accepted(sg)).Should(HavePrefix("True"))
	})
})
