package integration

import (
	"fmt"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// oneGroup is the groups part of a spec.
const oneGroup = "groups: [{name: a, selector: {matchLabels: {app: a}}}]\n"

var _ = Describe("Bad input", func() {
	DescribeTable("that one object shows is refused at once", func(spec, message string) {
		Expect(k8s.Create(ctx, parse("bad", spec))).To(MatchError(ContainSubstring(message)))
	},
		Entry("unknown group", oneGroup+"ports: [{port: 80, backends: [{group: a}, {group: b}]}]",
			"a backend names a group that spec.groups does not define; add the group or correct backends[].group"),
		Entry("two ports of one name", oneGroup+"ports: [{name: x, port: 80}, {name: x, port: 81}]",
			"two ports have the same name; give each its own"),
		Entry("two ports of one number and protocol", oneGroup+"ports: [{name: x, port: 80}, {name: y, port: 80}]",
			"Duplicate value"),
		Entry("two ports without a name", oneGroup+"ports: [{port: 80}, {port: 81}]",
			"every port needs a name when there is more than one"),
		Entry("two ports of one nodePort", "type: NodePort\n"+oneGroup+"ports: [{name: x, port: 80, nodePort: 30500}, {name: y, port: 81, nodePort: 30500}]",
			"two ports have the same nodePort and protocol; give each its own"),
		Entry("nodePort without a type that serves it", oneGroup+"ports: [{port: 80, nodePort: 30500}]",
			"set type to NodePort or LoadBalancer, or remove nodePort"),
		Entry("empty selector", "groups: [{name: a, selector: {}}]\nports: [{port: 80}]",
			"an empty selector would select every pod of the namespace; give at least one of matchLabels or matchExpressions"),
		Entry("group no port uses", `
groups:
- {name: a, selector: {matchLabels: {app: a}}}
- {name: b, selector: {matchLabels: {app: b}}}
ports: [{port: 80, backends: [{group: a}]}]`,
			"a group is used by no port; add it to the backends of a port or remove it from spec.groups"),
		Entry("clusterIP that is no address", "clusterIP: nonsense\n"+oneGroup+"ports: [{port: 80}]",
			"must be an IPv4 or IPv6 address, such as 10.96.0.20"),
	)

	It("in the name is refused at once", func() {
		Expect(k8s.Create(ctx, parse("has.dots", oneGroup+"ports: [{port: 80}]"))).
			To(MatchError(ContainSubstring("metadata.name must be a DNS label")))
	})

	DescribeTable("that the schema cannot show is a condition", func(spec, message string) {
		sg := create("bad", spec)
		Eventually(accepted(sg)).Should(Equal("False InvalidSpec: " + message))
		Expect(ready(sg)(Default)).To(Equal("False NotAccepted: nothing is served before the spec is accepted"))
		Expect(k8s.Get(ctx, client.ObjectKeyFromObject(sg), &corev1.Service{})).NotTo(Succeed())
	},
		Entry("selector operator without values", "groups: [{name: a, selector: {matchExpressions: [{key: app, operator: In}]}}]\nports: [{port: 80}]",
			"spec.groups[0].selector: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"In\"}]}: values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty; "+
				"In and NotIn need values, Exists and DoesNotExist take none, keys and values must be valid labels"),
		Entry("targetPort outside the range", oneGroup+"ports: [{port: 80, targetPort: 70000}]",
			"spec.ports[0].targetPort: 70000: must be between 1 and 65535, inclusive; give a number from 1 to 65535"),
		Entry("targetPort name without a letter", oneGroup+"ports: [{port: 80, backends: [{group: a, targetPort: '8080'}]}]",
			"spec.ports[0].backends[0].targetPort: \"8080\": must contain at least one letter (a-z); give the name of a container port, or a number without quotes"),
	)

	It("of any size is told in a condition that the API server takes", func() {
		sg := create("long", fmt.Sprintf("groups: [{name: a, selector: {matchExpressions: [{key: app, operator: Exists, values: [%s]}]}}]\nports: [{port: 80}]",
			strings.Repeat("many, ", 20_000)))
		Eventually(accepted(sg)).Should(And(HavePrefix("False InvalidSpec: spec.groups[0].selector: {"), ContainSubstring("Exists and DoesNotExist take none")))
		Eventually(func(g Gomega) []string { return reasons(g, "long") }).Should(ContainElement("Warning InvalidSpec"))

		var groups, ports []string
		for i := range 16 {
			app := numbered("app", i)
			groups = append(groups, fmt.Sprintf("{name: g%d, selector: {matchLabels: {app: %s}}}", i, app))
			runPod(podSpec{name: numbered("with", i), labels: map[string]string{"app": app}, ports: map[string]int32{"web": 8080}})
			runPod(podSpec{name: numbered("without", i), labels: map[string]string{"app": app}})
		}
		for i := range 100 {
			ports = append(ports, fmt.Sprintf("{name: p%d, port: %d, targetPort: web}", i, 1+i))
		}
		wide := create("wide", fmt.Sprintf("groups: [%s]\nports: [%s]", strings.Join(groups, ", "), strings.Join(ports, ", ")))
		Eventually(ready(wide)).Should(And(
			HavePrefix(`True EndpointsReady: every port has a ready endpoint; port p0 (1/TCP) leaves out 1 of the 2 pods of group "g0"`), HaveSuffix("and 1590 more")))
	})

	Describe("against other Services", func() {
		var holder *corev1.Service
		BeforeEach(func() {
			holder = &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: "holder", Namespace: namespace},
				Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{
					{Port: 80, TargetPort: intstr.FromInt32(80), NodePort: takenPort()}}},
			}
			Expect(k8s.Create(ctx, holder)).To(Succeed())
		})

		It("a taken nodePort names its holder and heals when it is free", func() {
			sg := create("late", "type: NodePort\n"+oneGroup+"ports: [{name: x, port: 79}, {name: y, port: 80, nodePort: TAKEN}]")
			Eventually(accepted(sg)).Should(Equal(fmt.Sprintf("False NodePortUnavailable: spec.ports[1].nodePort: %d: "+
				"already held by Service %s/holder; choose another number, or remove nodePort to get a free one", takenPort(), namespace)))
			Expect(k8s.Delete(ctx, holder)).To(Succeed())
			Eventually(accepted(sg)).Should(HavePrefix("True"))
			Eventually(func(g Gomega) string { return statusOf(sg)(g).PortSummary }).Should(MatchRegexp(fmt.Sprintf(`^79:\d+/TCP,80:%d/TCP$`, takenPort())))
		})

		It("a nodePort outside the range names field, value and range", func() {
			sg := create("outside", "type: NodePort\n"+oneGroup+"ports: [{port: 80, nodePort: 40000}]")
			Eventually(accepted(sg)).Should(Equal("False NodePortUnavailable: spec.ports[0].nodePort: 40000: provided port is not in the valid range. " +
				"The range of valid ports is 30000-32767; choose another number, or remove nodePort to get a free one"))
		})

		It("a taken clusterIP names its holder", func() {
			sg := create("taken", "clusterIP: "+holder.Spec.ClusterIP+"\n"+oneGroup+"ports: [{port: 80}]")
			Eventually(accepted(sg)).Should(Equal(fmt.Sprintf("False ClusterIPUnavailable: spec.clusterIP: %s: already held by Service %s/holder; "+
				"choose another address of the cluster's Service range, or remove the field to get a free one", holder.Spec.ClusterIP, namespace)))
		})

		It("a clusterIP outside the range names field and value", func() {
			sg := create("outside", "clusterIP: 192.168.7.7\n"+oneGroup+"ports: [{port: 80}]")
			Eventually(accepted(sg)).Should(HavePrefix("False ClusterIPUnavailable: spec.clusterIP: 192.168.7.7: "))
		})

		It("a Service of the wanted name is left alone, and the name taken over once it is free", func() {
			before := service(Default, "holder")
			sg := create("holder", oneGroup+"ports: [{port: 80}]")
			Eventually(accepted(sg)).Should(Equal("False NameTaken: metadata.name: holder: there is a Service of this name already, " +
				"which no ServiceGroup made; it is left alone: take it over with what kubectl servicegroup convert svc/holder prints, " +
				"give the ServiceGroup another name, or delete the Service"))
			Consistently(func(g Gomega) *corev1.Service { return service(g, "holder") }).Should(Equal(before))
			Expect(slicesOf(Default, "holder")).To(BeEmpty())
			Expect(k8s.Delete(ctx, holder)).To(Succeed())
			Eventually(accepted(sg)).Should(HavePrefix("True"))
		})

		It("a Service of the wanted name that wears our label is left alone too", func() {
			edit(holder, func(s *corev1.Service) {
				s.Labels = map[string]string{v1alpha1.LabelServiceProxyName: v1alpha1.ServiceProxyName}
			})
			sg := create("holder", oneGroup+"ports: [{port: 80}]")
			Eventually(accepted(sg)).Should(HavePrefix("False NameTaken"))
			Consistently(func(g Gomega) string { return service(g, "holder").ResourceVersion }).Should(Equal(holder.ResourceVersion))
		})
	})

	Describe("in an update", func() {
		const good = "type: NodePort\n" + oneGroup + "ports: [{name: http, port: 80, nodePort: FREE}]"
		var (
			sg  *v1alpha1.ServiceGroup
			pod *corev1.Pod
			svc *corev1.Service
		)
		BeforeEach(func() {
			pod = runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
			sg = create("web", good)
			Eventually(ready(sg)).Should(HavePrefix("True"))
			svc = service(Default, "web")
			Expect(k8s.Create(ctx, &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: "holder", Namespace: namespace},
				Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: takenPort()}}},
			})).To(Succeed())
		})

		DescribeTable("leaves what was served, and goes on maintaining it", func(spec, reason string) {
			respec(sg, spec)
			Eventually(accepted(sg)).Should(And(HavePrefix("False "+reason), HaveSuffix(". What was served before goes on being served")))
			Expect(service(Default, "web").Spec).To(Equal(svc.Spec))
			Expect(endpoints(Default, "web")).To(ConsistOf(at("a/http", pod, 80, "rs")))

			setReady(pod, false)
			Eventually(endpointsOf("web")).Should(ConsistOf(at("a/http", pod, 80, "")))
			Eventually(ready(sg)).Should(HavePrefix("False NoReadyEndpoints: no ready endpoint for port http (80/TCP): group a has no ready pod"))
			more := runPod(podSpec{name: "more", labels: map[string]string{"app": "a"}})
			Eventually(endpointsOf("web")).Should(ConsistOf(at("a/http", pod, 80, ""), at("a/http", more, 80, "rs")))
			Expect(statusOf(sg)(Default).PortSummary).To(Equal(fmt.Sprintf("80:%d/TCP", freePort())))

			respec(sg, good)
			Eventually(accepted(sg)).Should(HavePrefix("True"))
		},
			Entry("nodePort taken, other group, other targetPort", `
type: NodePort
groups: [{name: b, selector: {matchLabels: {app: b}}}]
ports: [{name: http, port: 80, nodePort: TAKEN, targetPort: 8080}]`, "NodePortUnavailable"),
			Entry("selector that cannot be parsed", `
type: NodePort
groups: [{name: a, selector: {matchExpressions: [{key: app, operator: In}]}}]
ports: [{name: http, port: 80, nodePort: FREE}]`, "InvalidSpec"),
			Entry("clusterIP that cannot change", "clusterIP: 10.0.77.77\n"+good, "ClusterIPUnavailable"),
			Entry("two things at once", `
type: NodePort
groups: [{name: a, selector: {matchLabels: {app: a}}}]
ports: [{name: other, port: 81, nodePort: TAKEN}, {name: third, port: 82, nodePort: 50000}]`, "NodePortUnavailable"),
		)

		It("tells of it in events, once per transition", func() {
			respec(sg, "type: NodePort\n"+oneGroup+"ports: [{name: http, port: 80, nodePort: TAKEN}]")
			Eventually(accepted(sg)).Should(HavePrefix("False NodePortUnavailable"))
			setReady(pod, false)
			setReady(pod, true)
			told := func(g Gomega) []string {
				return slices.DeleteFunc(reasons(g, "web"), func(r string) bool { return strings.Contains(r, "Endpoints") })
			}
			Eventually(told).Should(ConsistOf("Warning NodePortUnavailable"))
			Consistently(told).Should(ConsistOf("Warning NodePortUnavailable"))
			respec(sg, good)
			Eventually(told).Should(ConsistOf("Warning NodePortUnavailable", "Normal Accepted"))
		})
	})
})
