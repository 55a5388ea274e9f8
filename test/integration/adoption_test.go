package integration

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
	"github.com/servicegroup-dev/servicegroup/internal/convert"
)

const (
	adoptionLead  = 500 * time.Millisecond
	adoptionGrace = 500 * time.Millisecond
)

var _ = Describe("Adoption", Ordered, ContinueOnFailure, func() {
	var svc *corev1.Service

	start := func() {
		startManager(managerConfig, func(o *servicegroup.Options) {
			o.AdoptionLead, o.AdoptionGrace = adoptionLead, adoptionGrace
		})
	}
	BeforeAll(func() {
		stopManager()
		start()
	})
	AfterAll(func() {
		stopManager()
		startManager(managerConfig)
	})

	// What kubectl apply and kube-controller-manager made.
	BeforeEach(func() {
		runPod(podSpec{name: "a", labels: map[string]string{"app": "web"}})
		svc = &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Name: "web", Namespace: namespace, Labels: map[string]string{"team": "blue"},
				Annotations: map[string]string{"example.com/note": "mine"}, Finalizers: []string{"example.com/load-balancer"},
			},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeNodePort, Selector: map[string]string{"app": "web"}, ExternalIPs: []string{"192.0.2.7"},
				Ports: []corev1.ServicePort{
					{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)},
					{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
				},
			},
		}
		Expect(k8s.Create(ctx, svc, client.FieldOwner("kubectl-create"))).To(Succeed())
		DeferCleanup(func() {
			now := service(Default, "web")
			now.Finalizers = nil
			Expect(k8s.Update(ctx, now)).To(Succeed())
		})
		for _, manager := range []string{"endpointslice-controller.k8s.io", "somebody.example.com"} {
			Expect(k8s.Create(ctx, &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{
					GenerateName: "web-", Namespace: namespace,
					Labels: map[string]string{discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: manager},
				},
				AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.1"}}},
				Ports: []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080)}},
			})).To(Succeed())
		}
	})

	// managers are whose slices there are.
	managers := func(g Gomega) map[string]int {
		found := map[string]int{}
		for _, slice := range slicesOf(g, "web") {
			found[slice.Labels[discoveryv1.LabelManagedBy]]++
		}
		return found
	}
	converted := func() *v1alpha1.ServiceGroup {
		GinkgoHelper()
		result, err := convert.Service(svc)
		Expect(err).NotTo(HaveOccurred())
		return result.Group
	}
	taken := func(g Gomega) {
		now := service(g, "web")
		g.Expect(now.Labels).To(HaveKeyWithValue(v1alpha1.LabelServiceProxyName, v1alpha1.ServiceProxyName))
		g.Expect(now.Spec.Selector).To(BeEmpty())
	}
	// same is what must not have changed.
	same := func(sg *v1alpha1.ServiceGroup) {
		GinkgoHelper()
		now := service(Default, "web")
		Expect(now.UID).To(Equal(svc.UID))
		Expect(now.Spec.ClusterIPs).To(Equal(svc.Spec.ClusterIPs))
		Expect(now.Spec.Ports).To(Equal(svc.Spec.Ports))
		Expect(now.Spec.Selector).To(BeEmpty())
		Expect(metav1.IsControlledBy(now, sg)).To(BeTrue())
		Expect(now.Labels).To(HaveKeyWithValue("team", "blue"))
		Expect(now.Annotations).To(HaveKeyWithValue("example.com/note", "mine"))
		Expect(now.Finalizers).To(Equal(svc.Finalizers))
	}

	It("keeps UID, cluster IP and NodePorts, writes the slices first, and cleans up later", func() {
		sg := converted()
		var mu sync.Mutex
		var order []string
		own := namespace
		writes.intercept(func(at string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			if at == own+"/services" && req.URL.Query().Get("dryRun") == "" {
				defer GinkgoRecover()
				mu.Lock()
				defer mu.Unlock()
				order = append(order, fmt.Sprint("service with slices of ", managers(Default)))
			}
			return next.RoundTrip(req)
		})
		Expect(k8s.Create(ctx, sg)).To(Succeed())
		Eventually(taken).Should(Succeed())
		Expect(managers(Default)).To(HaveKeyWithValue("endpointslice-controller.k8s.io", 1))
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Eventually(ready(sg)).Should(HavePrefix("True"))
		same(sg)
		before := "service with slices of map[endpointslice-controller.k8s.io:1 servicegroup-manager:1 somebody.example.com:1]"
		Eventually(managers).Should(Equal(map[string]int{v1alpha1.ManagedBy: 1, "somebody.example.com": 1}))
		quiet()
		mu.Lock()
		defer mu.Unlock()
		Expect(order).To(Equal([]string{before, before, before})) // the word to the agents, the claim and the apply
		Expect(service(Default, "web").Labels).NotTo(HaveKey(v1alpha1.LabelAdopting))
		same(sg)
		Expect(service(Default, "web").Spec.ExternalIPs).To(BeEmpty(), "what a ServiceGroup cannot say is gone")
		Eventually(func(g Gomega) []string { return reasons(g, "web") }).Should(ContainElement("Normal Adopted"))
	})

	It("gives up every field that is removed from the ServiceGroup later", func() {
		sg := converted()
		sg.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		Expect(k8s.Create(ctx, sg)).To(Succeed())
		Eventually(taken).Should(Succeed())
		edit(sg, func(sg *v1alpha1.ServiceGroup) {
			sg.Spec.ServiceMetadata = nil
			sg.Spec.Ports = sg.Spec.Ports[:1]
			sg.Spec.SessionAffinity = ""
		})
		Eventually(func(g Gomega) {
			now := service(g, "web")
			g.Expect(now.Labels).NotTo(HaveKey("team"))
			g.Expect(now.Spec.Ports).To(HaveLen(1))
			g.Expect(now.Spec.SessionAffinity).To(Equal(corev1.ServiceAffinityNone))
		}).Should(Succeed())
	})

	It("is refused with another UID, until it is right", func() {
		sg := converted()
		sg.Annotations[v1alpha1.AnnotationAdopt] = "11111111-2222-3333-4444-555555555555"
		Expect(k8s.Create(ctx, sg)).To(Succeed())
		Eventually(accepted(sg)).Should(Equal(fmt.Sprintf("False NameTaken: metadata.annotations[net.servicegroup.dev/adopt]: "+
			"\"11111111-2222-3333-4444-555555555555\": the UID of Service web is %s; look whether it is the Service to be taken over, "+
			"and if so, run kubectl servicegroup convert svc/web again", svc.UID)))
		Consistently(func(g Gomega) string { return service(g, "web").ResourceVersion }).Should(Equal(svc.ResourceVersion))
		edit(sg, func(sg *v1alpha1.ServiceGroup) { sg.Annotations[v1alpha1.AnnotationAdopt] = string(svc.UID) })
		Eventually(taken).Should(Succeed())
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		same(sg)
	})

	It("is refused without the annotation, with the remedy", func() {
		sg := converted()
		sg.Annotations = nil
		Expect(k8s.Create(ctx, sg)).To(Succeed())
		Eventually(accepted(sg)).Should(And(HavePrefix("False NameTaken"), ContainSubstring("kubectl servicegroup convert svc/web")))
		Consistently(func(g Gomega) string { return service(g, "web").ResourceVersion }).Should(Equal(svc.ResourceVersion))
		Expect(managers(Default)).NotTo(HaveKey(v1alpha1.ManagedBy))
	})

	It("is refused while another controller owns the Service", func() {
		edit(svc, func(s *corev1.Service) {
			s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "example.com/v1", Kind: "App", Name: "shop", UID: types.UID("x"), Controller: ptr.To(true)}}
		})
		sg := converted()
		Expect(k8s.Create(ctx, sg)).To(Succeed())
		Eventually(accepted(sg)).Should(ContainSubstring("Service web belongs to App shop, which would go on writing it"))
	})

	It("changes nothing when the API server would refuse the result", func() {
		sg := converted()
		sg.Spec.ClusterIP, sg.Spec.ClusterIPs = "10.0.77.78", nil
		Expect(k8s.Create(ctx, sg)).To(Succeed())
		Eventually(accepted(sg)).Should(HavePrefix("False ClusterIPUnavailable: spec.clusterIP"))
		now := service(Default, "web")
		Expect(now.ResourceVersion).To(Equal(svc.ResourceVersion))
		Expect(managers(Default)).NotTo(HaveKey(v1alpha1.ManagedBy))
	})

	It("takes its slices back when the ServiceGroup goes before it has begun", func() {
		stopManager()
		startManager(managerConfig, func(o *servicegroup.Options) { o.AdoptionLead = time.Hour })
		sg := converted()
		Expect(k8s.Create(ctx, sg)).To(Succeed())
		Eventually(managers).Should(HaveKey(v1alpha1.ManagedBy))
		Expect(k8s.Delete(ctx, sg)).To(Succeed())
		Eventually(managers).ShouldNot(HaveKey(v1alpha1.ManagedBy))
		Expect(service(Default, "web").ResourceVersion).To(Equal(svc.ResourceVersion))
		stopManager()
		start()
	})

	It("lets the agents go when the ServiceGroup goes while the operator is down", func() {
		sg := converted()
		Expect(k8s.Create(ctx, sg)).To(Succeed())
		Eventually(func(g Gomega) map[string]string { return service(g, "web").Labels }).Should(HaveKey(v1alpha1.LabelAdopting))
		stopManager()
		Expect(service(Default, "web").Labels).To(HaveKey(v1alpha1.LabelAdopting))
		Expect(k8s.Delete(ctx, sg)).To(Succeed())
		start()
		Eventually(func(g Gomega) {
			g.Expect(service(g, "web").Labels).To(Equal(svc.Labels))
			g.Expect(managers(g)).NotTo(HaveKey(v1alpha1.ManagedBy))
		}).Should(Succeed())
		Expect(service(Default, "web").Spec).To(Equal(svc.Spec))
	})

	DescribeTable("survives a crash after any write", func(n int, fail writeHook) {
		sg := converted()
		var seen atomic.Int32
		failed := make(chan struct{})
		own := namespace
		writes.intercept(func(at string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			if len(at) > len(own) && at[:len(own)] == own && req.URL.Query().Get("dryRun") == "" && int(seen.Add(1)) == n {
				defer close(failed)
				return fail(at, req, next)
			}
			return next.RoundTrip(req)
		})
		Expect(k8s.Create(ctx, sg)).To(Succeed())
		Eventually(failed).Should(BeClosed())
		stopManager()
		start()
		Eventually(taken).Should(Succeed())
		Eventually(ready(sg)).Should(HavePrefix("True"))
		Eventually(managers).Should(Equal(map[string]int{v1alpha1.ManagedBy: 1, "somebody.example.com": 1}))
		same(sg)
	}, func() []TableEntry {
		var entries []TableEntry
		for n := range 5 {
			entries = append(entries,
				Entry(fmt.Sprintf("number %d that did not arrive", n+1), n+1, writeHook(func(string, *http.Request, http.RoundTripper) (*http.Response, error) {
					return nil, errors.New("injected: connection lost")
				})),
				Entry(fmt.Sprintf("number %d whose answer was lost", n+1), n+1, writeHook(func(_ string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
					if response, err := next.RoundTrip(req); err == nil {
						_ = response.Body.Close()
					}
					return nil, errors.New("injected: answer lost")
				})))
		}
		return entries
	}())
})
