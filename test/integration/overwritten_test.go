package integration

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// vandalism is what somebody does by hand to a Service whose numbers and addresses the API server gave: one
// edit after the other.
type vandalism struct {
	what, spec string
	edits      []func(*corev1.Service)

	sg     *v1alpha1.ServiceGroup
	before *corev1.Service
	status v1alpha1.ServiceGroupStatus
}

func vandalisms() []*vandalism {
	const (
		ports  = "type: NodePort\n" + oneGroup + "ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]"
		local  = "type: LoadBalancer\nexternalTrafficPolicy: Local\n" + oneGroup + "ports: [{name: http, port: 80}]"
		lb     = "type: LoadBalancer\n" + oneGroup + "ports: [{name: http, port: 80}]"
		sticky = "sessionAffinity: ClientIP\n" + oneGroup + "ports: [{name: http, port: 80}]"
		dual   = "ipFamilyPolicy: RequireDualStack\n" + oneGroup + "ports: [{name: http, port: 80}]"
	)
	type service = *corev1.Service
	one := func(edit func(service)) []func(service) { return []func(service){edit} }
	number := func(to int32) func(service) {
		return func(s service) { s.Spec.Ports[0].NodePort = to }
	}
	rename := func(s service) { s.Spec.Ports[0].Name = "other" }
	more := func(s service) { s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "extra", Port: 81}) }
	return []*vandalism{
		{what: "another nodePort", spec: ports, edits: one(number(30080))},
		{what: "two nodePorts, exchanged", spec: ports, edits: one(exchangeNodePorts)},
		{what: "another nodePort beside another port", spec: ports, edits: one(func(s service) { number(30081)(s); more(s) })},
		{what: "a port renamed, beside another port", spec: ports, edits: one(func(s service) { rename(s); more(s) })},
		{what: "a port renamed, its nodePort allocated anew", spec: ports, edits: one(func(s service) { number(0)(s); rename(s) })},
		{what: "a type without nodePorts, and back", spec: ports, edits: []func(service){func(s service) {
			s.Spec.Type = corev1.ServiceTypeClusterIP
			for i := range s.Spec.Ports {
				s.Spec.Ports[i].NodePort = 0
			}
		}, func(s service) { s.Spec.Type = corev1.ServiceTypeNodePort }}},
		{what: "a policy without a healthCheckNodePort", spec: local, edits: one(func(s service) {
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
		})},
		{what: "no nodePorts for a load balancer", spec: lb, edits: one(func(s service) {
			s.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
			s.Spec.Ports[0].NodePort = 0
		})},
		{what: "another timeout of session affinity", spec: sticky, edits: one(func(s service) {
			s.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds = ptr.To[int32](7)
		})},
		{what: "a family less", spec: dual, edits: one(func(s service) {
			s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicySingleStack)
			s.Spec.IPFamilies, s.Spec.ClusterIPs = s.Spec.IPFamilies[:1], s.Spec.ClusterIPs[:1]
		})},
	}
}

func exchangeNodePorts(s *corev1.Service) {
	p := s.Spec.Ports
	p[0].NodePort, p[1].NodePort = p[1].NodePort, p[0].NodePort
}

var _ = Describe("What the API server gave to a Service", func() {
	It("is put back when edited by hand, while the manager runs and while it does not", func() {
		all := vandalisms()
		for i, v := range all {
			v.sg = create(numbered("given", i), v.spec)
		}
		for _, v := range all {
			Eventually(accepted(v.sg)).Should(HavePrefix("True"))
		}
		quiet() // status remembers it
		for _, v := range all {
			v.before, v.status = service(Default, v.sg.Name), statusOf(v.sg)(Default)
		}
		expectSpec := func(v *vandalism) {
			Eventually(func(g Gomega) corev1.ServiceSpec { return service(g, v.sg.Name).Spec }).Should(Equal(v.before.Spec), v.what)
		}
		expectRestored := func() {
			for _, v := range all {
				expectSpec(v)
			}
			quiet()
			for _, v := range all {
				Expect(service(Default, v.sg.Name).Spec).To(Equal(v.before.Spec), v.what)
				Expect(statusOf(v.sg)(Default)).To(Equal(v.status), v.what)
				Expect(reasons(Default, v.sg.Name)).To(BeEmpty(), v.what)
			}
		}
		// A write that loses a race costs the API server the nodePorts it asked for, for minutes: it takes them
		// before it knows (fn(ctx, true) in registry/generic/registry/store.go, Kubernetes 1.37).
		for _, v := range all {
			for _, change := range v.edits {
				edit(service(Default, v.sg.Name), change)
				expectSpec(v)
			}
		}
		expectRestored()
		stopManager()
		for _, v := range all {
			for _, change := range v.edits {
				edit(service(Default, v.sg.Name), change)
			}
		}
		startManager(managerConfig)
		expectRestored()
	})

	It("stays as edited by hand once others have what it was, which an event tells once", func() {
		sg := create("robbed", "type: NodePort\n"+oneGroup+"ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]")
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		quiet()
		before := service(Default, "robbed").Spec.Ports[0].NodePort
		stopManager()
		edit(service(Default, "robbed"), func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30082 })
		handMade("robber", before)
		startManager(managerConfig)
		Eventually(func(g Gomega) int32 { return statusOf(sg)(g).Ports[0].NodePort }).Should(BeEquivalentTo(30082))
		Eventually(func(g Gomega) []string { return reasons(g, "robbed") }).Should(ContainElement("Warning AddressesChanged"))
		quiet()

		writes.reset()
		edit(service(Default, "robbed"), func(s *corev1.Service) { s.Annotations["touch"] = "by hand" })
		quiet()
		stopManager()
		startManager(managerConfig)
		quiet()
		Expect(writes.in(namespace)).To(BeEmpty())
		Expect(service(Default, "robbed").Spec.Ports[0].NodePort).To(BeEquivalentTo(30082))
		Expect(accepted(sg)(Default)).To(HavePrefix("True"))
		Expect(reasons(Default, "robbed")).To(Equal([]string{"Warning AddressesChanged"}))

		edit(service(Default, "robbed"), exchangeNodePorts) // what it kept is its own by now
		Eventually(func(g Gomega) int32 { return service(g, "robbed").Spec.Ports[0].NodePort }).MustPassRepeatedly(5).Should(BeEquivalentTo(30082))
	})
})
