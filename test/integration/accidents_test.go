package integration

import (
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

const nodePorts = `
type: NodePort
groups:
- {name: a, selector: {matchLabels: {app: a}}}
ports:
- {name: http, port: 80}
- {name: dns, port: 53, protocol: UDP}
`

var _ = Describe("Accidents", func() {
	var (
		sg  *v1alpha1.ServiceGroup
		pod *corev1.Pod
		svc *corev1.Service
	)
	want := func() []string { return []string{at("a/dns", pod, 53, "rs"), at("a/http", pod, 80, "rs")} }

	BeforeEach(func() {
		pod = runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg = create("precious", nodePorts)
		Eventually(endpointsOf("precious")).Should(Equal(want()))
		Eventually(ready(sg)).Should(HavePrefix("True"))
		svc = service(Default, "precious")
	})

	// restored waits until the Service is as it was, and stays so.
	restored := func() {
		GinkgoHelper()
		same := func(g Gomega) {
			now := service(g, "precious")
			g.Expect(now.Spec).To(Equal(svc.Spec))
			g.Expect(now.Labels).To(HaveKeyWithValue(v1alpha1.LabelServiceProxyName, v1alpha1.ServiceProxyName))
			g.Expect(metav1.IsControlledBy(now, sg)).To(BeTrue())
			g.Expect(now.Annotations).To(HaveKeyWithValue(v1alpha1.AnnotationRevision, svc.Annotations[v1alpha1.AnnotationRevision]))
			g.Expect(endpoints(g, "precious")).To(Equal(want()))
			for _, slice := range slicesOf(g, "precious") {
				g.Expect(metav1.IsControlledBy(&slice, now)).To(BeTrue())
				g.Expect(slice.Labels).To(HaveLen(5))
				g.Expect(slice.Labels).To(HaveKeyWithValue(discoveryv1.LabelManagedBy, v1alpha1.ManagedBy))
			}
		}
		Eventually(same).MustPassRepeatedly(3).Should(Succeed())
		Expect(accepted(sg)(Default)).To(HavePrefix("True"))
	}

	It("a deleted Service comes back with the same cluster IP and nodePorts", func() {
		Expect(k8s.Delete(ctx, svc)).To(Succeed())
		Eventually(func(g Gomega) types.UID { return service(g, "precious").UID }).ShouldNot(Equal(svc.UID))
		restored()
		// The remembered values are given back to the API server, so that they are still the
		// spec's to change.
		respec(sg, "externalTrafficPolicy: Local\n"+nodePorts)
		Eventually(func(g Gomega) corev1.ServiceExternalTrafficPolicy {
			return service(g, "precious").Spec.ExternalTrafficPolicy
		}).Should(Equal(corev1.ServiceExternalTrafficPolicyLocal))
		Expect(service(Default, "precious").Spec.ClusterIP).To(Equal(svc.Spec.ClusterIP))
		Expect(service(Default, "precious").Spec.Ports).To(Equal(svc.Spec.Ports))
	})

	DescribeTable("a deleted Service comes back at the same addresses of the families asked for", func(families string) {
		named := create("named", families+nodePorts)
		Eventually(accepted(named)).Should(HavePrefix("True"))
		quiet()
		Expect(accepted(named)(Default)).To(HavePrefix("True"), "also after a second look")
		before := service(Default, "named")
		Eventually(func(g Gomega) []string { return statusOf(named)(g).ClusterIPs }).Should(Equal(before.Spec.ClusterIPs))
		Expect(k8s.Delete(ctx, before)).To(Succeed())
		Eventually(func(g Gomega) types.UID { return service(g, "named").UID }).ShouldNot(Equal(before.UID))
		Expect(service(Default, "named").Spec).To(Equal(before.Spec))
	},
		Entry("one", "ipFamilies: [IPv4]\n"),
		Entry("the other one", "ipFamilies: [IPv6]\nipFamilyPolicy: SingleStack\n"),
		Entry("both", "ipFamilyPolicy: RequireDualStack\n"),
		Entry("both, the other one first", "ipFamilies: [IPv6, IPv4]\nipFamilyPolicy: RequireDualStack\n"),
		Entry("both, without saying which is second", "ipFamilies: [IPv6]\nipFamilyPolicy: PreferDualStack\n"),
		Entry("both, with one address", "clusterIP: 10.0.9.9\nipFamilyPolicy: PreferDualStack\n"),
	)

	It("a Service whose addresses others took meanwhile comes back at new ones, and an event says so", func() {
		stopManager()
		Expect(k8s.Delete(ctx, svc)).To(Succeed())
		other := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "other", Namespace: namespace},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeNodePort, ClusterIP: svc.Spec.ClusterIP,
				Ports: []corev1.ServicePort{{Port: 80, NodePort: svc.Spec.Ports[0].NodePort}},
			},
		}
		Eventually(func() error { return k8s.Create(ctx, other) }).Should(Succeed()) // until they are released
		startManager(managerConfig)
		Eventually(func(g Gomega) {
			now := service(g, "precious")
			g.Expect(now.Spec.ClusterIP).NotTo(Or(BeEmpty(), Equal(svc.Spec.ClusterIP)))
			g.Expect(now.Spec.Ports[0].NodePort).NotTo(Or(BeZero(), Equal(svc.Spec.Ports[0].NodePort)))
			g.Expect(statusOf(sg)(g).ClusterIP).To(Equal(now.Spec.ClusterIP))
			g.Expect(reasons(g, "precious")).To(ContainElement("Warning AddressesChanged"))
		}).Should(Succeed())
		Eventually(accepted(sg)).Should(HavePrefix("True"))
	})

	DescribeTable("an edit of the Service is undone", func(change func(*corev1.Service)) {
		edit(service(Default, "precious"), change)
		restored()
	},
		Entry("selector", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "a"} }),
		Entry("type", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer }),
		Entry("type without NodePorts", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }),
		Entry("type ExternalName", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
		}),
		Entry("targetPort", func(s *corev1.Service) { s.Spec.Ports[0].TargetPort.IntVal = 8080 }),
		Entry("appProtocol", func(s *corev1.Service) { s.Spec.Ports[0].AppProtocol = ptr.To("kubernetes.io/h2c") }),
		Entry("port number", func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 }),
		Entry("port name", func(s *corev1.Service) { s.Spec.Ports[0].Name = "other" }),
		Entry("port removed", func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[1:] }),
		Entry("port added", func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "extra", Port: 81})
		}),
		Entry("all ports replaced", func(s *corev1.Service) { s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 81}} }),
		Entry("proxy name removed", func(s *corev1.Service) { delete(s.Labels, v1alpha1.LabelServiceProxyName) }),
		Entry("annotation removed", func(s *corev1.Service) { delete(s.Annotations, v1alpha1.AnnotationRevision) }),
		Entry("owner removed", func(s *corev1.Service) { s.OwnerReferences = nil }),
		Entry("ServiceGroup label removed", func(s *corev1.Service) { delete(s.Labels, v1alpha1.LabelServiceGroup) }),
		Entry("session affinity", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }),
		Entry("publishNotReadyAddresses", func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }),
		Entry("trafficDistribution", func(s *corev1.Service) {
			s.Spec.TrafficDistribution = ptr.To(corev1.ServiceTrafficDistributionPreferClose)
		}),
		Entry("internalTrafficPolicy", func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
		}),
		Entry("externalTrafficPolicy", func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }),
	)

	It("a Service that another manager applies by force is taken back, and left to it where that moves no traffic", func() {
		theirs := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "precious", "namespace": %q,
			"labels": {"service.kubernetes.io/service-proxy-name": "other", "team": "blue"},
			"annotations": {"net.servicegroup.dev/revision": "precious-7"}},
			"spec": {"type": "ClusterIP", "selector": {"app": "theirs"}, "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local",
			"ports": [{"name": "http", "port": 80, "targetPort": 99}, {"name": "more", "port": 81}]}}`, namespace)
		for range 3 {
			target := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "precious", Namespace: namespace}}
			Expect(k8s.Patch(ctx, target, client.RawPatch(types.ApplyPatchType, []byte(theirs)), client.FieldOwner("other"), client.ForceOwnership)).To(Succeed())
			restored()
			Expect(service(Default, "precious").Labels).To(HaveKeyWithValue("team", "blue"))
		}
		quiet()
	})

	It("what others set on the Service without moving traffic stays theirs", func() {
		edit(service(Default, "precious"), func(s *corev1.Service) {
			s.Annotations["example.com/note"] = "mine"
			s.Labels["team"] = "blue"
		})
		respec(sg, "sessionAffinity: ClientIP\n"+nodePorts)
		Eventually(func(g Gomega) corev1.ServiceAffinity { return service(g, "precious").Spec.SessionAffinity }).Should(Equal(corev1.ServiceAffinityClientIP))
		now := service(Default, "precious")
		Expect(now.Annotations).To(HaveKeyWithValue("example.com/note", "mine"))
		Expect(now.Labels).To(HaveKeyWithValue("team", "blue"))
	})

	It("a deleted slice comes back", func() {
		Expect(k8s.Delete(ctx, &slicesOf(Default, "precious")[0])).To(Succeed())
		restored()
	})

	DescribeTable("an edit of a slice is undone", func(change func(*discoveryv1.EndpointSlice)) {
		edit(&slicesOf(Default, "precious")[0], change)
		restored()
	},
		Entry("endpoints removed", func(s *discoveryv1.EndpointSlice) { s.Endpoints = nil }),
		Entry("endpoint added", func(s *discoveryv1.EndpointSlice) {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.9.9.9"}})
		}),
		Entry("address changed", func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = []string{"10.9.9.9"} }),
		Entry("ports changed", func(s *discoveryv1.EndpointSlice) { *s.Ports[0].Port = 666 }),
		Entry("group changed", func(s *discoveryv1.EndpointSlice) { s.Labels[v1alpha1.LabelGroup] = "b" }),
		Entry("label added", func(s *discoveryv1.EndpointSlice) { s.Labels["extra"] = "label" }),
		Entry("service name changed", func(s *discoveryv1.EndpointSlice) { s.Labels[discoveryv1.LabelServiceName] = "other" }),
		Entry("manager changed", func(s *discoveryv1.EndpointSlice) { s.Labels[discoveryv1.LabelManagedBy] = "somebody" }),
		Entry("owner removed", func(s *discoveryv1.EndpointSlice) { s.OwnerReferences = nil }),
	)

	It("a forged slice with our labels is removed", func() {
		forged := slicesOf(Default, "precious")[0].DeepCopy()
		forged.ObjectMeta = metav1.ObjectMeta{Name: "forged", Namespace: namespace, Labels: forged.Labels}
		forged.Endpoints[0].Addresses = []string{"10.9.9.9"}
		Expect(k8s.Create(ctx, forged)).To(Succeed())
		Eventually(gone(forged)).Should(BeTrue())
		restored()
	})

	It("a ServiceGroup deleted and created anew waits for the garbage collector and then takes over", func() {
		Expect(k8s.Delete(ctx, sg)).To(Succeed())
		again := create("precious", nodePorts)
		Eventually(accepted(again)).Should(HavePrefix("False NameTaken: metadata.name: precious: the Service of a deleted ServiceGroup"))
		Expect(k8s.Delete(ctx, svc)).To(Succeed()) // the garbage collector's part
		for _, slice := range slicesOf(Default, "precious") {
			Expect(client.IgnoreNotFound(k8s.Delete(ctx, &slice))).To(Succeed())
		}
		Eventually(accepted(again)).Should(HavePrefix("True"))
		Eventually(endpointsOf("precious")).Should(Equal(want()))
		Expect(metav1.IsControlledBy(service(Default, "precious"), again)).To(BeTrue())
	})
})
