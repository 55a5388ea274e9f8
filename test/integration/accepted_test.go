package integration

import (
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

var _ = Describe("The accepted spec", func() {
	spec := func(port int) string { return fmt.Sprintf("%sports: [{name: http, port: %d}]", oneGroup, port) }

	It("is one write more for each change, named by the Service, and a few are kept", func() {
		sg := create("web", spec(80))
		Eventually(ready(sg)).Should(HavePrefix("False NoReadyEndpoints"))
		quiet()
		const changes = plan.RevisionHistory + 2
		for i := range changes {
			writes.reset()
			respec(sg, spec(81+i))
			Eventually(func(g Gomega) int32 { return service(g, "web").Spec.Ports[0].Port }).Should(Equal(int32(81 + i)))
			quiet()
			Expect(writes.in(namespace)).To(HaveKeyWithValue("services", 1))
			if i < plan.RevisionHistory-1 { // then the oldest goes, too
				Expect(writes.in(namespace)).To(HaveKeyWithValue("controllerrevisions", 1))
			}
			Expect(service(Default, "web").Annotations).To(HaveKeyWithValue(v1alpha1.AnnotationRevision, fmt.Sprintf("web-%d", i+2)))
		}
		kept := revisionsOf("web")(Default)
		Expect(kept).To(HaveLen(plan.RevisionHistory))
		for i := range kept {
			Expect(metav1.IsControlledBy(&kept[i], sg)).To(BeTrue())
			Expect(kept[i].Revision).To(BeNumerically(">", changes+1-plan.RevisionHistory))
			stored, err := plan.DecodeSpec(&kept[i])
			Expect(err).NotTo(HaveOccurred())
			Expect(stored.Ports[0].Port).To(Equal(int32(79 + kept[i].Revision)))
		}
	})

	It("is stored under another number where somebody has the name", func() {
		Expect(k8s.Create(ctx, &appsv1.ControllerRevision{
			ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: namespace}, Revision: 1, Data: runtime.RawExtension{Raw: []byte("{}")},
		})).To(Succeed())
		sg := create("web", spec(80))
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Eventually(revisionsOf("web")).Should(ConsistOf(HaveField("Name", "web-2")))
		Eventually(func(g Gomega) string { return service(g, "web").Annotations[v1alpha1.AnnotationRevision] }).Should(Equal("web-2"))
		quiet()
	})

	It("can be given up by the garbage collector, as deleting with --cascade=orphan asks", func() {
		create("web", "type: NodePort\n"+spec(80))
		Eventually(revisionsOf("web")).Should(HaveLen(1))
		revision := revisionsOf("web")(Default)[0]
		orphan := fmt.Sprintf(`{"metadata":{"uid":%q,"ownerReferences":[{"$patch":"delete","uid":%q}]}}`, revision.UID, revision.OwnerReferences[0].UID)
		Expect(k8s.Patch(ctx, &revision, client.RawPatch(types.StrategicMergePatchType, []byte(orphan)))).To(Succeed())
		Expect(revision.OwnerReferences).To(BeEmpty())
	})

	It("comes back when somebody who may deletes its revision", func() {
		sg := create("web", spec(80))
		Eventually(revisionsOf("web")).Should(HaveLen(1))
		quiet()
		Expect(k8s.Delete(ctx, &revisionsOf("web")(Default)[0])).To(Succeed())
		Eventually(revisionsOf("web")).Should(HaveLen(1))
		Expect(accepted(sg)(Default)).To(HavePrefix("True"))
	})

	It("is not read from what another ServiceGroup, or nobody, controls", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("web", spec(80))
		Eventually(ready(sg)).Should(HavePrefix("True"))
		Eventually(revisionsOf("web")).Should(HaveLen(1))
		forged := revisionsOf("web")(Default)[0]
		forged.ObjectMeta = metav1.ObjectMeta{
			Name: "web-9", Namespace: namespace, Labels: forged.Labels, Annotations: forged.Annotations,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ServiceGroup", Name: "web", UID: "forged"}},
		}
		Expect(k8s.Create(ctx, &forged)).To(Succeed())
		respec(sg, "clusterIP: 192.168.7.7\n"+spec(99))
		Eventually(accepted(sg)).Should(HavePrefix("False ClusterIPUnavailable"))
		stopManager()
		startManager(managerConfig)
		Consistently(endpointsOf("web")).Should(ConsistOf(at("a/http", pod, 80, "rs")))
		Expect(service(Default, "web").Annotations).To(HaveKeyWithValue(v1alpha1.AnnotationRevision, "web-1"))
	})
})

var _ = Describe("A paused ServiceGroup", func() {
	It("stays as it is, says so, and catches up when it is no more", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("held", oneGroup+"ports: [{name: http, port: 80}]")
		Eventually(ready(sg)).Should(HavePrefix("True"))
		respec(sg, "paused: true\n"+oneGroup+"ports: [{name: http, port: 81}]")
		Eventually(conditionOf(sg, v1alpha1.ConditionPaused)).Should(HavePrefix("True Paused: spec.paused: true"))
		quiet()
		writes.reset()
		setReady(pod, false)
		edit(service(Default, "held"), func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "other"} })
		Consistently(func() map[string]int { return writes.in(namespace) }).Should(BeEmpty())
		Expect(endpoints(Default, "held")).To(ConsistOf(at("a/http", pod, 80, "rs")))

		respec(sg, oneGroup+"ports: [{name: http, port: 81}]")
		Eventually(endpointsOf("held")).Should(ConsistOf(at("a/http", pod, 81, "")))
		Eventually(func(g Gomega) map[string]string { return service(g, "held").Spec.Selector }).Should(BeEmpty())
		Eventually(func(g Gomega) []metav1.Condition { return statusOf(sg)(g).Conditions }).
			ShouldNot(ContainElement(HaveField("Type", v1alpha1.ConditionPaused)))
		Expect(client.IgnoreNotFound(k8s.Delete(ctx, sg))).To(Succeed())
	})
})
