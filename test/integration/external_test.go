package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// external is a spec with one external group, db.
func external(group string) string {
	return "groups: [{name: db, external: {" + group + "}}]\nports: [{name: sql, port: 5432}]\n"
}

// quick is a health check that notices everything at the second check at the latest.
const quick = "periodSeconds: 1, failureThreshold: 1"

// addressesOf polls the external endpoints of both families as "group address conditions".
func addressesOf(name string) func(Gomega) []string {
	return func(g Gomega) []string {
		lines := []string{}
		for _, slice := range slicesOf(g, name) {
			for _, e := range slice.Endpoints {
				g.Expect(e.TargetRef).To(BeNil())
				lines = append(lines, fmt.Sprintf("%s %s %s", slice.Labels[v1alpha1.LabelGroup], e.Addresses[0], flags(e.Conditions)))
			}
		}
		slices.Sort(lines)
		return lines
	}
}

// groupOf polls the counts of the group db.
func groupOf(sg *v1alpha1.ServiceGroup) func(Gomega) v1alpha1.GroupStatus {
	return func(g Gomega) v1alpha1.GroupStatus {
		groups := statusOf(sg)(g).Groups
		g.Expect(groups).NotTo(BeEmpty())
		return groups[0]
	}
}

var _ = Describe("An external group", func() {
	DescribeTable("that is nonsense is refused at once", func(spec, message string) {
		Expect(k8s.Create(ctx, parse("bad", spec))).To(MatchError(ContainSubstring(message)))
	},
		Entry("with a selector too", "groups: [{name: db, selector: {matchLabels: {app: a}}, external: {addresses: [192.0.2.1]}}]\nports: [{port: 80}]",
			"give exactly one of selector and external"),
		Entry("with neither", "groups: [{name: db}]\nports: [{port: 80}]", "give exactly one of selector and external"),
		Entry("addresses and hostname", external("addresses: [192.0.2.1], hostname: db.example"), "give exactly one of addresses and hostname"),
		Entry("neither address nor hostname", external("healthCheck: {tcp: {}}"), "give exactly one of addresses and hostname"),
		Entry("a name among the addresses", external("addresses: [db.example]"), "must be IPv4 or IPv6 addresses, such as 192.0.2.10 or 2001:db8::10; for names there is hostname"),
		Entry("a mapped address", external("addresses: ['::ffff:192.0.2.1']"), "must be IPv4 or IPv6 addresses"),
		Entry("an address twice", external("addresses: [192.0.2.1, 192.0.2.1]"), "Duplicate value"),
		Entry("an address as hostname", external("hostname: 192.0.2.1"), "must be a DNS name; for addresses there is addresses"),
		Entry("two checks", external("addresses: [192.0.2.1], healthCheck: {tcp: {}, http: {}}"), "give exactly one of tcp and http"),
		Entry("no check", external("addresses: [192.0.2.1], healthCheck: {port: 80}"), "give exactly one of tcp and http"),
		Entry("a check longer than its period", external("addresses: [192.0.2.1], healthCheck: {tcp: {}, periodSeconds: 2, timeoutSeconds: 3}"), "set timeoutSeconds (default 1) to at most periodSeconds (default 10)"),
		Entry("a check longer than the period is by default", external("addresses: [192.0.2.1], healthCheck: {tcp: {}, timeoutSeconds: 11}"), "set timeoutSeconds (default 1) to at most periodSeconds (default 10)"),
		Entry("a path with a line break", external(`addresses: [192.0.2.1], healthCheck: {http: {path: "/a\nb"}}`), "path"),
	)

	DescribeTable("that cannot be served is a condition", func(spec, message string) {
		sg := create("bad", spec)
		Eventually(accepted(sg)).Should(Equal("False InvalidSpec: " + message))
	},
		Entry("named targetPort of the port", "groups: [{name: db, external: {addresses: [192.0.2.1]}}]\nports: [{port: 80, targetPort: web}]",
			`spec.ports[0].targetPort: "web": group db is external, and only pods have ports with names; `+
				"give the number of the port, or list the backends and give this group a targetPort of its own"),
		Entry("named targetPort of the backend", "groups: [{name: db, external: {addresses: [192.0.2.1]}}]\nports: [{port: 80, backends: [{group: db, targetPort: web}]}]",
			`spec.ports[0].backends[0].targetPort: "web": group db is external, and only pods have ports with names; give the number of the port`),
		Entry("nothing to check", "groups: [{name: db, external: {addresses: [192.0.2.1], healthCheck: {tcp: {}}}}]\nports: [{port: 53, protocol: UDP}]",
			"spec.groups[0].external.healthCheck.port: none: no TCP port leads to the group, so there is none to check by default; give the number of a TCP port to check"),
		Entry("a path that is none", external(`addresses: [192.0.2.1], healthCheck: {http: {path: "/%zz"}}`),
			`spec.groups[0].external.healthCheck.http.path: "/%zz": not a valid path; write characters that a path cannot have as % and two hexadecimal digits`),
	)

	It("is served in both families, beside pods, without its health being checked", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("dual", `
ipFamilyPolicy: PreferDualStack
groups:
- {name: old, external: {addresses: ["2001:db8:0::1", 192.0.2.2, 192.0.2.1]}}
- {name: new, selector: {matchLabels: {app: a}}}
ports:
- {name: http, port: 80, backends: [{group: new}, {group: old, targetPort: 8080}]}`)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		Expect(endpoints(Default, "dual")).To(Equal([]string{at("new/http", pod, 80, "rs"), "old/http 192.0.2.1:8080 rs", "old/http 192.0.2.2:8080 rs"}))
		Expect(accepted(sg)(Default)).To(HavePrefix("True"))
		status := statusOf(sg)(Default)
		Expect(status.GroupSummary).To(Equal("2/2"))
		Expect(status.Groups[0]).To(Equal(v1alpha1.GroupStatus{Name: "old", Matched: 3, Ready: 3}))
		svc := service(Default, "dual")
		for _, slice := range slicesOf(Default, "dual") {
			Expect(metav1.IsControlledBy(&slice, svc)).To(BeTrue())
			Expect(slice.Labels).To(HaveKeyWithValue(discoveryv1.LabelManagedBy, v1alpha1.ManagedBy))
			Expect(slice.Labels).To(HaveKeyWithValue(v1alpha1.LabelServiceProxyName, v1alpha1.ServiceProxyName))
		}

		By("taking back what others do to its slices")
		mine := client.MatchingLabels{v1alpha1.LabelGroup: "old", discoveryv1.LabelServiceName: "dual"}
		Expect(k8s.DeleteAllOf(ctx, &discoveryv1.EndpointSlice{}, client.InNamespace(namespace), mine)).To(Succeed())
		Eventually(endpointsOf("dual")).Should(HaveLen(3))
	})

	It("leaves out what the administrator does not allow, and says so", func() {
		sg := create("refused", external("addresses: [192.0.2.1, 198.51.100.7, 10.0.0.1, 127.0.0.1, 169.254.169.254, '::1', '2001:db8::1']"))
		Eventually(accepted(sg)).Should(Equal("False AddressNotAllowed: " +
			"spec.groups[0].external.addresses: 10.0.0.1, 198.51.100.7: not in the ranges that the manager allows; " +
			"ask who runs the cluster to add it to the manager's --external-ranges, or use another address. " +
			"spec.groups[0].external.addresses: 127.0.0.1, 169.254.169.254, ::1: loopback, link-local, multicast and unspecified addresses are never served; " +
			"use another address. Everything else is served"))
		Expect(addressesOf("refused")(Default)).To(Equal([]string{"db 192.0.2.1 rs"})) // the Service has no IPv6
		Expect(groupOf(sg)(Default)).To(Equal(v1alpha1.GroupStatus{Name: "db", Matched: 7, Ready: 1, LeftOut: 6}))
		Expect(ready(sg)(Default)).To(HavePrefix("True"))
		Expect(outside.dialed("10.0.0.1:5432")).To(BeZero())

		respec(sg, external("addresses: [198.51.100.7]"))
		Eventually(ready(sg)).Should(Equal("False NoReadyEndpoints: no ready endpoint for port sql (5432/TCP): group db has no address that may be served"))
		Eventually(addressesOf("refused")).Should(BeEmpty())
		respec(sg, external("addresses: ['2001:db8::1']"))
		Eventually(ready(sg)).Should(HaveSuffix("group db has no address of a family of the entry point"))
		Expect(accepted(sg)(Default)).To(HavePrefix("True"))
	})

	It("works headless, exposed, and for the cluster's own proxy", func() {
		sg := create("exposed", "exposeGroups: true\ndataplane: Cluster\n"+external("addresses: [192.0.2.1]"))
		Eventually(ready(sg)).Should(HavePrefix("True"))
		Expect(endpoints(Default, "exposed")).To(Equal([]string{"db/sql 192.0.2.1:5432 rs"}))
		Expect(slicesOf(Default, "exposed")[0].Labels).NotTo(HaveKey(v1alpha1.LabelServiceProxyName))
		Eventually(endpointsOf("exposed-db")).Should(Equal([]string{"db/sql 192.0.2.1:5432 rs"}))

		headless := create("headless", "clusterIP: None\ngroups: [{name: db, external: {addresses: [192.0.2.1]}}]")
		Eventually(ready(headless)).Should(HavePrefix("True"))
		Expect(addressesOf("headless")(Default)).To(Equal([]string{"db 192.0.2.1 rs"}))
	})

	It("takes the place of pods, and gives it back", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		pods := "groups: [{name: db, selector: {matchLabels: {app: a}}}]\nports: [{name: sql, port: 5432}]"
		sg := create("moving", pods)
		Eventually(endpointsOf("moving")).Should(Equal([]string{at("db/sql", pod, 5432, "rs")}))
		respec(sg, external("addresses: [192.0.2.1]"))
		Eventually(endpointsOf("moving")).Should(Equal([]string{"db/sql 192.0.2.1:5432 rs"}))
		quiet()
		writes.reset()
		setReady(pod, false)
		setReady(pod, true)
		Consistently(func() map[string]int { return writes.in(namespace) }).Should(BeEmpty())
		respec(sg, pods)
		Eventually(endpointsOf("moving")).Should(Equal([]string{at("db/sql", pod, 5432, "rs")}))
	})

	Describe("with a health check", func() {
		It("has the addresses ready that pass, with one write for each flip", func() {
			outside.serve("192.0.2.11:5432", nil)
			sg := create("flips", external("addresses: [192.0.2.11, 192.0.2.12], healthCheck: {tcp: {}, "+quick+"}"))
			Eventually(addressesOf("flips")).Should(Equal([]string{"db 192.0.2.11 rs", "db 192.0.2.12 "}))
			Eventually(ready(sg)).Should(HavePrefix("True"))
			Eventually(groupOf(sg)).Should(Equal(v1alpha1.GroupStatus{Name: "db", Matched: 2, Ready: 1}))
			quiet()

			writes.reset()
			outside.serve("192.0.2.12:5432", nil)
			Eventually(addressesOf("flips")).Should(Equal([]string{"db 192.0.2.11 rs", "db 192.0.2.12 rs"}))
			Eventually(groupOf(sg)).Should(Equal(v1alpha1.GroupStatus{Name: "db", Matched: 2, Ready: 2}))
			quiet()
			Expect(writes.in(namespace)).To(Equal(map[string]int{"endpointslices": 1, "servicegroups/status": 1}))

			outside.stop("192.0.2.11:5432")
			outside.stop("192.0.2.12:5432")
			Eventually(ready(sg)).Should(Equal("False NoReadyEndpoints: no ready endpoint for port sql (5432/TCP): no address of group db passes its health check"))

			By("checking nothing when it is gone")
			Expect(k8s.Delete(ctx, sg)).To(Succeed())
			quiet()
			before := outside.dialed("192.0.2.11:5432")
			Consistently(func() int { return outside.dialed("192.0.2.11:5432") }, "2s").Should(Equal(before))
		})

		It("asks over HTTP at the first TCP port that leads to it, or at the one it is told", func() {
			var hosts = make(chan string, 100)
			healthy := func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/live" {
					hosts <- r.Host
					return
				}
				w.WriteHeader(http.StatusInternalServerError)
			}
			const three = "groups: [{name: db, external: {addresses: [192.0.2.21], healthCheck: {http: {path: /live, host: shop.example}, %s" + quick + "}}}]\n" +
				"ports: [{name: c, port: 53, protocol: UDP}, {name: b, port: 81, backends: [{group: db, targetPort: 8081}]}, {name: a, port: 80}]"
			outside.serve("192.0.2.21:8081", healthy)
			sg := create("http", fmt.Sprintf(three, ""))
			Eventually(hosts).Should(Receive(Equal("shop.example")))
			Eventually(addressesOf("http")).Should(HaveEach("db 192.0.2.21 rs"))
			Expect(outside.dialed("192.0.2.21:53") + outside.dialed("192.0.2.21:80")).To(BeZero())

			respec(sg, fmt.Sprintf(three, "port: 80, "))
			Eventually(addressesOf("http")).Should(HaveEach("db 192.0.2.21 "))
			outside.serve("192.0.2.21:80", healthy)
			Eventually(addressesOf("http")).Should(HaveEach("db 192.0.2.21 rs"))
		})

		It("keeps what was ready over a restart of the manager until it fails", func() {
			outside.serve("192.0.2.31:5432", nil)
			seldom := create("seldom", external("addresses: [192.0.2.31], healthCheck: {tcp: {}, periodSeconds: 3600}"))
			often := create("often", external("addresses: [192.0.2.31], healthCheck: {tcp: {}, "+quick+"}"))
			Eventually(ready(seldom)).Should(HavePrefix("True"))
			Eventually(ready(often)).Should(HavePrefix("True"))
			quiet()
			stopManager()
			outside.stop("192.0.2.31:5432")
			writes.reset()
			startManager(managerConfig)
			Eventually(ready(often)).Should(HavePrefix("False NoReadyEndpoints"))
			quiet()
			Expect(addressesOf("seldom")(Default)).To(Equal([]string{"db 192.0.2.31 rs"}))
			Expect(writes.in(namespace)).To(Equal(map[string]int{"endpointslices": 1, "servicegroups/status": 1}), "all for the one that failed")
		})
	})

	It("that was stored before a rule can still be edited and is served", func() {
		const long = "addresses: [192.0.2.71], healthCheck: {tcp: {}, periodSeconds: 1, timeoutSeconds: 30}"
		takes := func(name string) func() error {
			return func() error { return k8s.Create(ctx, parse(name, external(long)), client.DryRunAll) }
		}
		putBack := withoutRule("timeoutSeconds")
		Eventually(takes("old")).Should(Succeed())
		sg := create("old", external(long))
		putBack()
		Eventually(takes("new")).Should(MatchError(ContainSubstring("timeoutSeconds")))

		outside.serve("192.0.2.71:5432", nil)
		edit(sg, func(sg *v1alpha1.ServiceGroup) {
			sg.Labels = map[string]string{"edited": "true"}
			sg.Spec.Ports[0].Name = "edited"
		})
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Eventually(addressesOf("old")).Should(Equal([]string{"db 192.0.2.71 rs"}))
	})
})

// withoutRule takes the CEL rules that name a field out of the CRD until putBack is called.
func withoutRule(field string) (putBack func()) {
	GinkgoHelper()
	crd := &unstructured.Unstructured{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	crd.SetName("servicegroups." + v1alpha1.GroupVersion.Group)
	Expect(k8s.Get(ctx, client.ObjectKeyFromObject(crd), crd)).To(Succeed())
	whole := crd.DeepCopy()
	removed := 0
	var strip func(node any)
	strip = func(node any) {
		switch node := node.(type) {
		case []any:
			for _, child := range node {
				strip(child)
			}
		case map[string]any:
			rules, _ := node["x-kubernetes-validations"].([]any)
			kept := slices.DeleteFunc(slices.Clone(rules), func(rule any) bool { return strings.Contains(fmt.Sprint(rule), field) })
			if len(kept) < len(rules) {
				node["x-kubernetes-validations"], removed = kept, removed+1
			}
			for _, child := range node {
				strip(child)
			}
		}
	}
	strip(crd.Object)
	Expect(removed).To(Equal(1))
	Expect(k8s.Update(ctx, crd)).To(Succeed())
	putBack = sync.OnceFunc(func() {
		edit(crd, func(crd *unstructured.Unstructured) { crd.Object["spec"] = whole.Object["spec"] })
	})
	DeferCleanup(putBack)
	return putBack
}
