package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

var _ = Describe("dataplane", func() {
	const rest = "type: NodePort\n" + oneGroup + "ports: [{name: http, port: 80}]"

	// proxyNames are those of the Service and of its slices.
	proxyNames := func(g Gomega) []string {
		names := []string{service(g, "web").Labels[v1alpha1.LabelServiceProxyName]}
		for _, slice := range slicesOf(g, "web") {
			names = append(names, slice.Labels[v1alpha1.LabelServiceProxyName])
		}
		return names
	}

	It("Cluster leaves the entry point to the cluster's own proxy, and Agent takes it back", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("web", "dataplane: Cluster\n"+rest)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		before := service(Default, "web")
		Expect(proxyNames(Default)).To(Equal([]string{"", ""}))

		edit(before, func(s *corev1.Service) { s.Labels[v1alpha1.LabelServiceProxyName] = "somebody" })
		Eventually(proxyNames).Should(Equal([]string{"", ""}))

		respec(sg, rest)
		Eventually(proxyNames).Should(Equal([]string{v1alpha1.ServiceProxyName, v1alpha1.ServiceProxyName}))
		respec(sg, "dataplane: Cluster\n"+rest)
		Eventually(proxyNames).Should(Equal([]string{"", ""}))
		Expect(endpoints(Default, "web")).To(ConsistOf(at("a/http", pod, 80, "rs")))
		Expect(service(Default, "web").Spec).To(Equal(before.Spec))
		quiet()
	})
})

var _ = Describe("exposeGroups", func() {
	const (
		groups = `
groups:
- {name: a, selector: {matchLabels: {app: a}}}
- {name: b, selector: {matchLabels: {app: b}}}
ports:
- {name: http, port: 80, backends: [{group: a}, {group: b, targetPort: 8080}]}
- {name: admin, port: 81, backends: [{group: b}]}
`
		exposed = "exposeGroups: true" + groups
	)
	var (
		podA, podB *corev1.Pod
		sg         *v1alpha1.ServiceGroup
	)
	BeforeEach(func() {
		podA = runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		podB = runPod(podSpec{name: "b", labels: map[string]string{"app": "b"}})
	})
	start := func() {
		GinkgoHelper()
		sg = create("web", exposed)
		Eventually(endpointsOf("web-a")).Should(ConsistOf(at("a/http", podA, 80, "rs")))
		Eventually(endpointsOf("web-b")).Should(ConsistOf(at("b/http", podB, 8080, "rs"), at("b/admin", podB, 81, "rs")))
		Eventually(ready(sg)).Should(HavePrefix("True"))
	}

	It("gives every group a headless Service with the ports that lead to it", func() {
		start()
		svc := service(Default, "web-b")
		Expect(svc.Spec.ClusterIP).To(Equal("None"))
		Expect(svc.Spec.IPFamilies).To(Equal(service(Default, "web").Spec.IPFamilies))
		Expect(svc.Spec.Selector).To(BeEmpty())
		Expect(svc.Spec.Ports).To(Equal([]corev1.ServicePort{
			{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)},
			{Name: "admin", Protocol: corev1.ProtocolTCP, Port: 81, TargetPort: intstr.FromInt32(81)},
		}))
		Expect(metav1.IsControlledBy(svc, sg)).To(BeTrue())
		for _, slice := range slicesOf(Default, "web-b") {
			Expect(metav1.IsControlledBy(&slice, svc)).To(BeTrue())
			Expect(slice.Labels).To(And(HaveKey(corev1.IsHeadlessService), Not(HaveKey(v1alpha1.LabelServiceProxyName))))
		}
		Expect(slicesOf(Default, "web")).To(HaveLen(2))
		quiet()

		setReady(podB, false)
		Eventually(endpointsOf("web-b")).Should(ConsistOf(at("b/http", podB, 8080, ""), at("b/admin", podB, 81, "")))
		Expect(endpoints(Default, "web-a")).To(ConsistOf(at("a/http", podA, 80, "rs")))
	})

	It("takes them away with the group and with the field", func() {
		start()
		b := service(Default, "web-b")
		respec(sg, "exposeGroups: true\n"+oneGroup+"ports: [{name: http, port: 80}]")
		Eventually(gone(b)).Should(BeTrue())
		a := service(Default, "web-a")
		respec(sg, groups)
		Eventually(gone(a)).Should(BeTrue())
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Expect(service(Default, "web").Spec.ClusterIP).NotTo(BeEmpty())
	})

	It("follows a group that is renamed in place, whose pods are served without a gap", func() {
		start()
		main, a, b := service(Default, "web"), service(Default, "web-a"), service(Default, "web-b")
		own := namespace
		served := func(g Gomega) { // by a slice of whatever name
			g.Expect(endpoints(g, "web")).To(ContainElement(HaveSuffix(at("http", podB, 8080, "rs"))))
		}
		writes.intercept(func(at string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			response, err := next.RoundTrip(req)
			if at == own+"/endpointslices" && req.Method == http.MethodDelete {
				defer GinkgoRecover()
				served(Default)
			}
			return response, err
		})
		respec(sg, strings.NewReplacer("name: b", "name: c", "group: b", "group: c").Replace(exposed))
		Eventually(endpointsOf("web-c")).Should(ConsistOf(at("c/http", podB, 8080, "rs"), at("c/admin", podB, 81, "rs")))
		Eventually(endpointsOf("web")).Should(ConsistOf(at("a/http", podA, 80, "rs"), at("c/http", podB, 8080, "rs"), at("c/admin", podB, 81, "rs")))
		Eventually(gone(b)).Should(BeTrue())
		Eventually(ready(sg)).Should(HavePrefix("True"))
		quiet()
		Expect(service(Default, "web").Spec).To(Equal(main.Spec))
		Expect(service(Default, "web").UID).To(Equal(main.UID))
		Expect(service(Default, "web-a")).To(Equal(a), "of the other group nothing is written")
	})

	It("follows two groups that exchange their names", func() {
		start()
		a := service(Default, "web-a")
		respec(sg, strings.NewReplacer("app: a", "app: b", "app: b", "app: a").Replace(exposed))
		Eventually(endpointsOf("web-a")).Should(ConsistOf(at("a/http", podB, 80, "rs")))
		Eventually(endpointsOf("web-b")).Should(ConsistOf(at("b/http", podA, 8080, "rs"), at("b/admin", podA, 81, "rs")))
		Eventually(endpointsOf("web")).Should(ConsistOf(at("a/http", podB, 80, "rs"), at("b/http", podA, 8080, "rs"), at("b/admin", podA, 81, "rs")))
		Expect(service(Default, "web-a").UID).To(Equal(a.UID))
	})

	It("restores what is deleted or edited", func() {
		start()
		svc := service(Default, "web-a")
		Expect(k8s.Delete(ctx, svc)).To(Succeed())
		Eventually(func(g Gomega) types.UID { return service(g, "web-a").UID }).ShouldNot(Equal(svc.UID))
		Eventually(endpointsOf("web-a")).Should(ConsistOf(at("a/http", podA, 80, "rs")))
		edit(svc, func(s *corev1.Service) {
			s.Spec.Selector = map[string]string{"app": "b"}
			s.Spec.Ports[0].TargetPort = intstr.FromInt32(99)
			delete(s.Labels, v1alpha1.LabelServiceGroup)
		})
		Eventually(func(g Gomega) {
			now := service(g, "web-a")
			g.Expect(now.Spec.Selector).To(BeEmpty())
			g.Expect(now.Spec.Ports[0].TargetPort).To(Equal(intstr.FromInt32(80)))
			g.Expect(now.Labels).To(HaveKeyWithValue(v1alpha1.LabelServiceGroup, "web"))
		}).Should(Succeed())
		edit(&slicesOf(Default, "web-b")[0], func(s *discoveryv1.EndpointSlice) { s.Endpoints = nil })
		Eventually(endpointsOf("web-b")).Should(ConsistOf(at("b/http", podB, 8080, "rs"), at("b/admin", podB, 81, "rs")))
		edit(&slicesOf(Default, "web-b")[0], func(s *discoveryv1.EndpointSlice) { s.Labels[discoveryv1.LabelManagedBy] = "somebody" })
		Eventually(endpointsOf("web-b")).Should(ConsistOf(at("b/http", podB, 8080, "rs"), at("b/admin", podB, 81, "rs")))
		Eventually(func(g Gomega) int { return len(slicesOf(g, "web-b")) }).Should(Equal(1))
	})

	It("leaves a foreign Service of a group's name alone, and serves everything else", func() {
		foreign := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "web-b", Namespace: namespace},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}},
		}
		Expect(k8s.Create(ctx, foreign)).To(Succeed())
		sg = create("web", exposed)
		Eventually(accepted(sg)).Should(Equal("False NameTaken: spec.exposeGroups: there is a Service web-b already, which no ServiceGroup made; " +
			"it is left alone: delete it, rename the group, or remove exposeGroups. Everything else is served"))
		Eventually(endpointsOf("web-a")).Should(ConsistOf(at("a/http", podA, 80, "rs")))
		Expect(service(Default, "web-b")).To(Equal(foreign))
		Expect(k8s.Delete(ctx, foreign)).To(Succeed())
		Eventually(accepted(sg)).Should(HavePrefix("True"))
	})

	It("has a second ServiceGroup of a group's Service's name wait", func() {
		start()
		other := create("web-a", oneGroup+"ports: [{port: 80}]")
		Eventually(accepted(other)).Should(ContainSubstring("which belongs to ServiceGroup web"))
		Expect(endpoints(Default, "web-a")).To(ConsistOf(at("a/http", podA, 80, "rs")))
	})

	It("does not wait for a Service that somebody's finalizer keeps", func() {
		start()
		b := service(Default, "web-b")
		edit(b, func(s *corev1.Service) { s.Finalizers = []string{"example.com/hold"} })
		respec(sg, "exposeGroups: true\n"+oneGroup+"ports: [{name: http, port: 80}]")
		Eventually(func(g Gomega) bool { return service(g, "web-b").DeletionTimestamp.IsZero() }).Should(BeFalse())
		Eventually(func(g Gomega) []v1alpha1.GroupStatus { return statusOf(sg)(g).Groups }).Should(HaveLen(1))
		quiet()
		edit(service(Default, "web-b"), func(s *corev1.Service) { s.Finalizers = nil })
		Eventually(gone(b)).Should(BeTrue())
	})

	It("gives way to a webhook that changes a group's Service in each write, and says so", func() {
		own := namespace
		writes.intercept(func(at string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			response, err := next.RoundTrip(req)
			if at != own+"/services" || !strings.HasSuffix(req.URL.Path, "/web-a") || err != nil || response.StatusCode >= 300 {
				return response, err
			}
			defer GinkgoRecover()
			changed := service(Default, "web-a")
			edit(changed, func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "b"} })
			return instead(response, service(Default, "web-a")), nil
		})
		sg = create("web", exposed)
		Eventually(accepted(sg)).Should(HavePrefix("False Overruled: "))
		Expect(endpoints(Default, "web-b")).To(ConsistOf(at("b/http", podB, 8080, "rs"), at("b/admin", podB, 81, "rs")))
	})

	It("has names that fit, or is refused at once", func() {
		long := strings.Repeat("x", 61)
		Expect(k8s.Create(ctx, parse(long, "exposeGroups: true\n"+oneGroup+"ports: [{port: 80}]"))).To(Succeed())
		Expect(k8s.Create(ctx, parse(long+"y", "exposeGroups: true\n"+oneGroup+"ports: [{port: 80}]"))).
			To(MatchError(ContainSubstring("has more than 63 characters")))
		Eventually(func(g Gomega) { service(g, fmt.Sprintf("%s-a", long)) }).Should(Succeed())
	})
})

// instead is a response with another object.
func instead(response *http.Response, svc *corev1.Service) *http.Response {
	GinkgoHelper()
	svc.APIVersion, svc.Kind = "v1", "Service"
	body, err := json.Marshal(svc)
	Expect(err).NotTo(HaveOccurred())
	Expect(response.Body.Close()).To(Succeed())
	response.Header.Set("Content-Type", "application/json")
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return response
}
