package integration

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
)

// report writes a Lease as the agent of a node does that has programmed these revisions.
func report(node, services, slices string) {
	GinkgoHelper()
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: v1alpha1.LeasePrefix + node, Labels: map[string]string{v1alpha1.LabelAgent: "true"},
			Annotations: map[string]string{v1alpha1.AnnotationServices: services, v1alpha1.AnnotationEndpointSlices: slices},
		},
		Spec: coordinationv1.LeaseSpec{RenewTime: ptr.To(metav1.NowMicro()), LeaseDurationSeconds: ptr.To[int32](180)},
	}
	now := &coordinationv1.Lease{}
	err := k8s.Get(ctx, client.ObjectKeyFromObject(lease), now)
	if apierrors.IsNotFound(err) {
		Expect(k8s.Create(ctx, lease)).To(Succeed())
		return
	}
	Expect(err).NotTo(HaveOccurred())
	lease.ResourceVersion = now.ResourceVersion
	Expect(k8s.Update(ctx, lease)).To(Succeed())
}

// mayReadLeases is what config/rbac gives the manager in its own namespace.
func mayReadLeases() {
	GinkgoHelper()
	Expect(k8s.Create(ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "leases", Namespace: namespace},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"list", "watch"}}},
	})).To(Succeed())
	Expect(k8s.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "leases", Namespace: namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "leases"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "manager"}},
	})).To(Succeed())
}

var _ = Describe("The reports of agents", func() {
	BeforeEach(func() {
		mayReadLeases()
		stopManager()
		cached := servicegroup.CacheOptions()
		cached.ByObject[&coordinationv1.Lease{}] = servicegroup.LeaseCache(namespace)
		startManagerOn(managerConfig, cached, func(o *servicegroup.Options) { o.LeaseNamespace = namespace })
		DeferCleanup(func() {
			stopManager()
			startManager(managerConfig)
		})
	})
	const one = "ports: [{port: 80}]\ngroups: [{name: a, selector: {matchLabels: {app: a}}}]"
	const two = "ports: [{port: 80}]\ngroups: [{name: a, selector: {matchLabels: {app: a}}}, {name: b, selector: {matchLabels: {app: b}}}]"

	It("wake nobody before the last one that is waited for", func() {
		report("node1", "1", "1")
		report("node2", "1", "1")
		var all []*v1alpha1.ServiceGroup
		for i := range 10 {
			all = append(all, create(numbered("sg", i), one))
		}
		for _, sg := range all {
			Eventually(conditionOf(sg, v1alpha1.ConditionProgrammed)).Should(HavePrefix("False Pending"))
		}
		newest := "9000000000000000000"
		before := reconciliations()
		for range 20 {
			report("node1", newest, newest)
		}
		Consistently(reconciliations).Should(Equal(before))
		report("node2", newest, newest)
		for _, sg := range all {
			Eventually(conditionOf(sg, v1alpha1.ConditionProgrammed)).Should(HavePrefix("True"))
		}
	})

	It("are waited for until agents have dropped what was removed", func() {
		report("node1", "1", "1")
		sg := create("shrinks", two)
		Eventually(conditionOf(sg, v1alpha1.ConditionProgrammed)).Should(HavePrefix("False Pending"))
		report("node1", "9000000000000000000", "9000000000000000000")
		Eventually(conditionOf(sg, v1alpha1.ConditionProgrammed)).Should(HavePrefix("True"))
		runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		runPod(podSpec{name: "b", labels: map[string]string{"app": "b"}})
		Eventually(endpointsOf("shrinks")).Should(HaveLen(2))

		slices := discoveryclient.NewForConfigOrDie(cluster.Config).EndpointSlices(namespace)
		list, err := slices.List(ctx, metav1.ListOptions{})
		Expect(err).NotTo(HaveOccurred())
		events, err := slices.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(events.Stop)
		report("node1", list.ResourceVersion, list.ResourceVersion)
		respec(sg, one)
		var deleted *discoveryv1.EndpointSlice
		Eventually(func() bool {
			e := <-events.ResultChan()
			deleted, _ = e.Object.(*discoveryv1.EndpointSlice)
			return e.Type == watch.Deleted
		}).Should(BeTrue())
		// The agent has everything but the deletion.
		report("node1", "9000000000000000000", list.ResourceVersion)
		Eventually(conditionOf(sg, v1alpha1.ConditionProgrammed)).Should(HavePrefix("False Pending"))
		Consistently(conditionOf(sg, v1alpha1.ConditionProgrammed)).Should(HavePrefix("False Pending"))
		report("node1", "9000000000000000000", deleted.ResourceVersion)
		Eventually(conditionOf(sg, v1alpha1.ConditionProgrammed)).Should(HavePrefix("True"))
	})
})
