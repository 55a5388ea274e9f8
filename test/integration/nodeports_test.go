package integration

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// testRange is in the part of the cluster's range that the API server leaves to explicit ports, after
// those of other tests.
const testRange = "30060-30079"

// withRange changes the manager's --node-port-range for this test.
func withRange(text string) {
	GinkgoHelper()
	numbers, err := plan.ParseNodePortRange(text)
	Expect(err).NotTo(HaveOccurred())
	stopManager()
	startManager(managerConfig, func(o *servicegroup.Options) { o.NodePortRange = numbers })
}

// probes are the numbers that a port of a ServiceGroup tries, in this order.
func probes(sg *v1alpha1.ServiceGroup) []int32 {
	GinkgoHelper()
	numbers, err := plan.ParseNodePortRange(testRange)
	Expect(err).NotTo(HaveOccurred())
	var out []int32
	request := plan.NodePortRequest{Group: sg, Range: numbers, Taken: map[int32]bool{}}
	for numbered, err := plan.NodePorts(request); err == nil; numbered, err = plan.NodePorts(request) {
		number := numbered.Spec.Ports[0].NodePort
		request.Taken[number] = true
		out = append(out, number)
	}
	return out
}

// handMade creates a Service that has a NodePort.
func handMade(name string, number int32) *corev1.Service {
	GinkgoHelper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: number}}},
	}
	Expect(k8s.Create(ctx, svc)).To(Succeed())
	return svc
}

// nodePortOf polls the first NodePort of an accepted ServiceGroup.
func nodePortOf(sg *v1alpha1.ServiceGroup) func(Gomega) int32 {
	return func(g Gomega) int32 {
		g.Expect(accepted(sg)(g)).To(HavePrefix("True"))
		number := service(g, sg.Name).Spec.Ports[0].NodePort
		g.Expect(statusOf(sg)(g).Ports[0].NodePort).To(Equal(number))
		return number
	}
}

var _ = Describe("NodePorts from a range", Ordered, ContinueOnFailure, func() {
	const one = "type: NodePort\n" + oneGroup + "ports: [{name: http, port: 80}]"

	BeforeEach(func() { withRange(testRange) })
	AfterEach(func() { // the numbers are for the next test
		stopManager()
		Expect(k8s.DeleteAllOf(ctx, &v1alpha1.ServiceGroup{}, client.InNamespace(namespace))).To(Succeed())
		Expect(k8s.DeleteAllOf(ctx, &corev1.Service{}, client.InNamespace(namespace))).To(Succeed())
	})
	AfterAll(func() {
		stopManager()
		startManager(managerConfig)
	})

	// remove deletes a ServiceGroup and plays the garbage collector.
	remove := func(sg *v1alpha1.ServiceGroup) {
		GinkgoHelper()
		svc := service(Default, sg.Name)
		Expect(k8s.Delete(ctx, sg)).To(Succeed())
		Eventually(gone(sg.DeepCopy())).Should(BeTrue())
		// An operator that does not know yet that its ServiceGroup is gone puts the Service back.
		Eventually(func() error { return k8s.Delete(ctx, svc.DeepCopy()) }).MustPassRepeatedly(10).ShouldNot(Succeed())
		for _, slice := range slicesOf(Default, sg.Name) {
			Expect(client.IgnoreNotFound(k8s.Delete(ctx, &slice))).To(Succeed())
		}
	}

	It("are the same after delete and re-create", func() {
		sg := create("again", one)
		want := probes(sg)[0]
		Eventually(nodePortOf(sg)).Should(Equal(want))
		for range 3 {
			remove(sg)
			sg = create("again", one)
			Eventually(nodePortOf(sg)).Should(Equal(want))
		}
		quiet()
	})

	It("are shared by the protocols of one port, and given to type LoadBalancer unless it wants none", func() {
		dns := create("dns", "type: LoadBalancer\n"+oneGroup+"ports: [{name: udp, port: 53, protocol: UDP}, {name: tcp, port: 53}]")
		Eventually(accepted(dns)).Should(HavePrefix("True"))
		ports := service(Default, "dns").Spec.Ports
		Expect(ports[0].NodePort).To(And(BeNumerically(">=", 30060), BeNumerically("<=", 30079)))
		Expect(ports[1].NodePort).To(Equal(ports[0].NodePort))
		bare := create("bare", "type: LoadBalancer\nallocateLoadBalancerNodePorts: false\n"+oneGroup+"ports: [{port: 80}]")
		Eventually(accepted(bare)).Should(HavePrefix("True"))
		Expect(service(Default, "bare").Spec.Ports[0].NodePort).To(BeZero())
		quiet()
	})

	It("that are explicit and held name the holder", func() {
		holder := handMade("holder", 30085)
		sg := create("late", "type: NodePort\n"+oneGroup+"ports: [{name: x, port: 79}, {name: y, port: 80, nodePort: 30085}]")
		Eventually(accepted(sg)).Should(Equal(fmt.Sprintf("False NodePortUnavailable: spec.ports[1].nodePort: 30085: "+
			"already held by Service %s/holder; choose another number, or remove nodePort to get a free one", namespace)))
		Expect(k8s.Delete(ctx, holder)).To(Succeed())
		Eventually(accepted(sg)).Should(HavePrefix("True"))
	})

	It("pass by a hand-made Service, and stay when it goes", func() {
		sg := parse("second", one)
		order := probes(sg)
		holder := handMade("holder", order[0])
		Expect(k8s.Create(ctx, sg)).To(Succeed())
		Eventually(nodePortOf(sg)).Should(Equal(order[1]))
		Expect(k8s.Delete(ctx, holder)).To(Succeed())
		respec(sg, "sessionAffinity: ClientIP\n"+one)
		Eventually(func(g Gomega) corev1.ServiceAffinity { return service(g, "second").Spec.SessionAffinity }).Should(Equal(corev1.ServiceAffinityClientIP))
		Eventually(nodePortOf(sg)).Should(Equal(order[1]))
		quiet()
	})

	It("pass by Services made at the very moment", func() {
		sg := parse("moment", one)
		order := probes(sg)
		var made atomic.Int32
		writes.intercept(func(at string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			if n := made.Load(); at == namespace+"/services" && n < 4 {
				made.Add(1)
				defer GinkgoRecover()
				handMade(numbered("quick", int(n)), order[n])
			}
			return next.RoundTrip(req)
		})
		Expect(k8s.Create(ctx, sg)).To(Succeed())
		Eventually(nodePortOf(sg)).Should(Equal(order[4]))
	})

	It("of two ServiceGroups that want the same one differ", func() {
		first := map[int32]string{}
		var a, b *v1alpha1.ServiceGroup
		for i := 0; b == nil; i++ {
			name := numbered("twin", i)
			number := probes(parse(name, one))[0]
			if first[number] != "" {
				a, b = parse(first[number], one), parse(name, one)
			}
			first[number] = name
		}
		created := make(chan error, 2)
		for _, sg := range []*v1alpha1.ServiceGroup{a, b} {
			go func() { created <- k8s.Create(ctx, sg) }()
		}
		Expect(errors.Join(<-created, <-created)).NotTo(HaveOccurred())
		want := probes(a)
		Eventually(func(g Gomega) {
			numbers := []int32{nodePortOf(a)(g), nodePortOf(b)(g)}
			g.Expect(numbers).To(Or(
				Equal([]int32{want[0], probes(b)[1]}),
				Equal([]int32{want[1], want[0]})))
		}).Should(Succeed())
		quiet()
	})

	It("are gone when the range is full, which heals", func() {
		withRange("30060-30061")
		holder := handMade("a", 30060)
		handMade("b", 30061)
		sg := create("full", one)
		Eventually(accepted(sg)).Should(Equal("False NodePortUnavailable: spec.ports[0].nodePort: no number of --node-port-range=30060-30061 is free; " +
			"ask who runs the cluster to widen the range, or name a nodePort outside of it"))
		Expect(k8s.Delete(ctx, holder)).To(Succeed())
		Eventually(nodePortOf(sg)).Should(Equal(int32(30060)))
	})

	It("are refused outside of the API server's range", func() {
		withRange("20000-20010")
		sg := create("outside", one)
		Eventually(accepted(sg)).Should(And(HavePrefix("False NodePortUnavailable: spec.ports: NodePort 200"),
			ContainSubstring("of the manager's --node-port-range=20000-20010: provided port is not in the valid range. The range of valid ports is 30000-32767; ask who runs the cluster")))
	})

	It("that a Service has stay when the range comes and goes", func() {
		sg := create("before", one)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		number := nodePortOf(sg)(Default)
		for _, text := range []string{"", "30070-30079", ""} {
			withRange(text)
			respec(sg, "externalTrafficPolicy: Local\n"+one)
			Eventually(accepted(sg)).Should(HavePrefix("True"))
			respec(sg, one)
			Eventually(nodePortOf(sg)).Should(Equal(number))
			quiet()
		}
	})

	DescribeTable("after an accident are what they were", func(accident func(*corev1.Service)) {
		sg := create("precious", "type: NodePort\n"+oneGroup+"ports: [{name: http, port: 80}, {name: https, port: 443}]")
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Eventually(func(g Gomega) int { return len(statusOf(sg)(g).Ports) }).Should(Equal(2))
		quiet()
		before := service(Default, "precious")
		accident(before.DeepCopy())
		Eventually(func(g Gomega) []corev1.ServicePort { return service(g, "precious").Spec.Ports }).MustPassRepeatedly(5).Should(Equal(before.Spec.Ports))
		Expect(service(Default, "precious").Spec.ClusterIP).To(Equal(before.Spec.ClusterIP))
	},
		Entry("a deleted Service", func(s *corev1.Service) { Expect(k8s.Delete(ctx, s)).To(Succeed()) }),
		Entry("another number written by hand", func(s *corev1.Service) {
			edit(s, func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30084 })
		}),
		Entry("numbers exchanged by hand", func(s *corev1.Service) {
			edit(s, func(s *corev1.Service) {
				p := s.Spec.Ports
				p[0].NodePort, p[1].NodePort = p[1].NodePort, p[0].NodePort
			})
		}),
		Entry("a port removed by hand", func(s *corev1.Service) {
			edit(s, func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[1:] })
		}),
		Entry("made a ClusterIP by hand", func(s *corev1.Service) {
			edit(s, func(s *corev1.Service) {
				s.Spec.Type = corev1.ServiceTypeClusterIP
				for i := range s.Spec.Ports {
					s.Spec.Ports[i].NodePort = 0
				}
			})
		}),
	)

	It("of a Service deleted by hand pass by whoever took them meanwhile, and an event tells", func() {
		sg := create("robbed", one)
		order := probes(sg)
		Eventually(nodePortOf(sg)).Should(Equal(order[0]))
		stopManager()
		before := service(Default, "robbed")
		Expect(k8s.Delete(ctx, before)).To(Succeed())
		handMade("robber", order[0])
		withRange(testRange)
		Eventually(nodePortOf(sg)).Should(Equal(order[1]))
		Expect(service(Default, "robbed").Spec.ClusterIP).To(Equal(before.Spec.ClusterIP))
		Eventually(func(g Gomega) []string { return reasons(g, "robbed") }).Should(ContainElement("Warning AddressesChanged"))
	})

	DescribeTable("survive a crash after any write", func(fail writeHook) {
		for n := range int32(3) { // the n-th write fails, and the manager starts anew
			var seen atomic.Int32
			failed := make(chan struct{})
			own := namespace
			writes.intercept(func(at string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
				if len(at) <= len(own) || at[:len(own)] != own {
					return next.RoundTrip(req)
				}
				switch number := seen.Add(1); {
				case number == n+1:
					defer close(failed)
					return fail(at, req, next)
				case number > n+1: // a request that the crash cuts short has its number for a moment
					return nil, errors.New("injected: the manager has crashed")
				}
				return next.RoundTrip(req)
			})
			sg := create(numbered("crash", int(n)), "type: NodePort\n"+oneGroup+"ports: [{name: a, port: 80}, {name: b, port: 81}]")
			Eventually(failed).Should(BeClosed())
			want := probes(sg)
			stopManager()
			writes.intercept(nil)
			withRange(testRange)
			Eventually(nodePortOf(sg)).Should(Equal(want[0]))
			quiet()
			remove(sg)
		}
	},
		Entry("that did not arrive", writeHook(func(string, *http.Request, http.RoundTripper) (*http.Response, error) {
			return nil, errors.New("injected: connection lost")
		})),
		Entry("whose answer was lost", writeHook(func(_ string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			if response, err := next.RoundTrip(req); err == nil {
				_ = response.Body.Close()
			}
			return nil, errors.New("injected: answer lost")
		})),
	)
})
