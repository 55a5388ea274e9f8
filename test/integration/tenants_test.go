package integration

import (
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
)

// manyGroups are groups that select every pod.
func manyGroups(n int) string {
	var spec strings.Builder
	spec.WriteString("groups:\n")
	for i := range n {
		fmt.Fprintf(&spec, "- {name: g%d, selector: {matchExpressions: [{key: none, operator: DoesNotExist}]}}\n", i)
	}
	return spec.String()
}

// product is 200 groups times 100 ports, in 20 kB.
func product() string {
	spec := manyGroups(200) + "ports:\n"
	for i := range 100 {
		spec += fmt.Sprintf("- {name: p%d, port: %d}\n", i, 8000+i)
	}
	return spec
}

// selectors is one selector of 33,000 values.
func selectors() string {
	values := make([]string, 33_000)
	for i := range values {
		values[i] = fmt.Sprintf("%q", fmt.Sprintf("%x", i))
	}
	return "groups: [{name: g, selector: {matchExpressions: [{key: k, operator: In, values: [" + strings.Join(values, ",") + "]}]}}]\nports: [{port: 80}]"
}

var _ = Describe("A hostile tenant", func() {
	const modest = oneGroup + "ports: [{name: http, port: 80}]"

	DescribeTable("is told the budget, and what was served goes on", func(spec string, what string) {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("greedy", modest)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		respec(sg, spec)
		Eventually(accepted(sg)).Should(And(HavePrefix("False OverBudget: spec."), ContainSubstring(what),
			ContainSubstring("who runs the cluster can raise the budget"), HaveSuffix("What was served before goes on being served")))
		Expect(endpoints(Default, "greedy")).To(ConsistOf(at("a/http", pod, 80, "rs")))
		setReady(pod, false)
		Eventually(endpointsOf("greedy")).Should(ConsistOf(at("a/http", pod, 80, "")))
	},
		Entry("with 200 groups times 100 ports", product(), "20000 groups behind all ports: more than the 2000"),
		Entry("with a selector of 33,000 values", selectors(), "33000 values in the selectors of all groups: more than the 5000"),
		Entry("with 200 exposed groups", "exposeGroups: true\n"+manyGroups(200)+"ports: [{port: 80}]", "200 Services of groups: more than the 64"),
	)

	It("drives nobody by annotations while the spec is refused", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("record", modest)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		before := service(Default, "record")
		respec(sg, product())
		Eventually(accepted(sg)).Should(HavePrefix("False OverBudget"))
		for _, text := range []string{
			`{"groups":[{"name":"x","external":{"hostname":"x.example","healthCheck":{"tcp":{},"periodSeconds":-1}}}],"ports":[{"port":80}]}`, "{", "",
		} {
			edit(service(Default, "record"), func(s *corev1.Service) {
				s.Annotations[v1alpha1.AnnotationServed], s.Annotations[v1alpha1.AnnotationRevision] = text, text
			})
			Eventually(func(g Gomega) {
				now := service(g, "record")
				g.Expect(now.Annotations).To(HaveKeyWithValue(v1alpha1.AnnotationRevision, before.Annotations[v1alpha1.AnnotationRevision]))
				g.Expect(now.Spec).To(Equal(before.Spec))
				g.Expect(endpoints(g, "record")).To(ConsistOf(at("a/http", pod, 80, "rs")))
			}).Should(Succeed())
		}
	})

	It("has the endpoints of its budget and no more, those first that are served", func() {
		stopManager()
		startManager(managerConfig, func(o *servicegroup.Options) {
			o.Budgets.Endpoints, o.Budgets.Backends, o.Budgets.SelectorValues, o.Budgets.HealthChecks, o.Budgets.ExposedServices = 4, 10, 10, 10, 10
		})
		DeferCleanup(func() {
			stopManager()
			startManager(managerConfig)
		})
		const ports = oneGroup + "ports: [{name: http, port: 80}, {name: more, port: 81}]"
		first := runPod(podSpec{name: "z", labels: map[string]string{"app": "a"}})
		sg := create("many", ports)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		second := runPod(podSpec{name: "y", labels: map[string]string{"app": "a"}})
		Eventually(endpointsOf("many")).Should(HaveLen(4))
		third := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		Eventually(accepted(sg)).Should(And(HavePrefix("False OverBudget: spec.groups: 6 endpoints"), HaveSuffix("Everything else is served")))
		both := ConsistOf(at("a/http", first, 80, "rs"), at("a/more", first, 81, "rs"), at("a/http", second, 80, "rs"), at("a/more", second, 81, "rs"))
		Consistently(endpointsOf("many")).Should(both)
		quiet()

		setReady(first, false)
		Eventually(endpointsOf("many")).Should(ContainElement(at("a/http", third, 80, "rs")))
		Expect(k8s.Delete(ctx, second, client.GracePeriodSeconds(0))).To(Succeed())
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Expect(slicesOf(Default, "many")).To(HaveEach(HaveField("AddressType", discoveryv1.AddressTypeIPv4)))
	})
})
