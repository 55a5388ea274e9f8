package integration

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
	"github.com/servicegroup-dev/servicegroup/internal/convert"
)

var _ = Describe("Adoption", Ordered, func() {
	BeforeAll(func() {
		stopManager()
		startManager(managerConfig, func(o *servicegroup.Options) {
			o.AdoptionLead, o.AdoptionGrace = 100*time.Millisecond, 300*time.Millisecond
		})
	})
	AfterAll(func() {
		stopManager()
		startManager(managerConfig)
	})

	// adopt converts and adopts a Service, and returns it as it was.
	adopt := func(spec corev1.ServiceSpec, change func(*v1alpha1.ServiceGroup)) (*v1alpha1.ServiceGroup, *corev1.Service) {
		GinkgoHelper()
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kind", Namespace: namespace}, Spec: spec}
		Expect(k8s.Create(ctx, svc)).To(Succeed())
		result, err := convert.Service(svc)
		Expect(err).NotTo(HaveOccurred())
		change(result.Group)
		Expect(k8s.Create(ctx, result.Group)).To(Succeed())
		Eventually(accepted(result.Group)).Should(HavePrefix("True"))
		Eventually(ready(result.Group)).Should(HavePrefix("True"))
		now := service(Default, "kind")
		Expect(now.UID).To(Equal(svc.UID))
		Expect(now.Spec.Selector).To(BeEmpty())
		Expect(now.Spec.Type).To(Equal(svc.Spec.Type))
		Expect(now.Spec.ClusterIPs).To(Equal(svc.Spec.ClusterIPs))
		Expect(now.Spec.Ports).To(Equal(svc.Spec.Ports))
		Expect(metav1.IsControlledBy(now, result.Group)).To(BeTrue())
		Expect(now.Labels).NotTo(Or(HaveKey(v1alpha1.LabelServiceProxyName), HaveKey(v1alpha1.LabelAdopting)))
		return result.Group, svc
	}
	asConverted := func(*v1alpha1.ServiceGroup) {}
	web := map[string]string{"app": "web"}
	ports := []corev1.ServicePort{{Name: "http", Port: 80}}

	It("of an ExternalName keeps the name, and it can become something else", func() {
		sg, before := adopt(corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.com"}, asConverted)
		Expect(service(Default, "kind").Spec.ExternalName).To(Equal("db.example.com"))
		Expect(slicesOf(Default, "kind")).To(BeEmpty())
		respec(sg, oneGroup+"ports: [{name: http, port: 80}]")
		Eventually(func(g Gomega) string { return service(g, "kind").Spec.ClusterIP }).ShouldNot(BeEmpty())
		Expect(service(Default, "kind").UID).To(Equal(before.UID))
		quiet()
	})

	It("of a headless Service keeps it headless, with the endpoints of its pods", func() {
		pod := runPod(podSpec{name: "web-0", labels: web, hostname: "web-0", subdomain: "kind"})
		_, _ = adopt(corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Selector: web, Ports: ports}, asConverted)
		Expect(endpoints(Default, "kind")).To(ConsistOf(at("kind/http", pod, 80, "rs")))
		Expect(*slicesOf(Default, "kind")[0].Endpoints[0].Hostname).To(Equal("web-0"))
		quiet()
	})

	It("with dataplane Cluster leaves the Service to the proxy that it has", func() {
		pod := runPod(podSpec{name: "web", labels: web})
		_, _ = adopt(corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Selector: web, Ports: ports},
			func(sg *v1alpha1.ServiceGroup) { sg.Spec.Dataplane = v1alpha1.DataplaneCluster })
		Expect(endpoints(Default, "kind")).To(ConsistOf(at("kind/http", pod, 80, "rs")))
		Expect(slicesOf(Default, "kind")[0].Labels).NotTo(HaveKey(v1alpha1.LabelServiceProxyName))
		quiet()
	})
})
