package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// once runs something before the first write to a resource of this namespace, in the manager's way.
func once(resource string, do func()) {
	var first sync.Once
	place := namespace + "/" + resource
	writes.intercept(func(at string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if at == place {
			first.Do(do)
		}
		return next.RoundTrip(req)
	})
}

var _ = Describe("Between a look and a write", func() {
	foreign := func() *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "race", Namespace: namespace},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "mine", Port: 443}}},
		}
	}
	leftAlone := func(sg *v1alpha1.ServiceGroup) {
		GinkgoHelper()
		Eventually(accepted(sg)).Should(HavePrefix("False NameTaken"))
		now := service(Default, "race")
		Expect(now.Spec.Ports).To(HaveLen(1))
		Expect(now.Spec.Ports[0].Name).To(Equal("mine"))
		Expect(now.OwnerReferences).To(BeEmpty())
		Expect(now.Labels).To(BeEmpty())
		Expect(now.Annotations).To(BeEmpty())
	}

	It("a foreign Service appears, and is left alone", func() {
		once("services", func() {
			defer GinkgoRecover()
			Expect(k8s.Create(ctx, foreign())).To(Succeed())
		})
		leftAlone(create("race", twoGroups))
	})

	It("a foreign Service takes the place of ours, and is left alone", func() {
		sg := create("race", twoGroups)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		quiet()
		once("services", func() {
			defer GinkgoRecover()
			Expect(k8s.Delete(ctx, service(Default, "race"))).To(Succeed())
			Expect(k8s.Create(ctx, foreign())).To(Succeed())
		})
		respec(sg, "sessionAffinity: ClientIP\n"+twoGroups)
		leftAlone(sg)
	})

	It("a slice is edited, and the edit is undone", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		create("race", twoGroups)
		Eventually(endpointsOf("race")).Should(ConsistOf(at("a/http", pod, 80, "rs")))
		quiet()
		once("endpointslices", func() {
			defer GinkgoRecover()
			for _, slice := range slicesOf(Default, "race") {
				edit(&slice, func(s *discoveryv1.EndpointSlice) { s.Endpoints = nil })
			}
		})
		setReady(pod, false)
		Eventually(endpointsOf("race")).Should(ConsistOf(at("a/http", pod, 80, "")))
	})
})

// answer is an API server's refusal.
func answer(req *http.Request, status metav1.Status) *http.Response {
	body, err := json.Marshal(status)
	Expect(err).NotTo(HaveOccurred())
	return &http.Response{
		StatusCode: int(status.Code), Status: http.StatusText(int(status.Code)), Request: req, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)),
	}
}

var _ = Describe("With every other write", func() {
	var mu sync.Mutex
	DescribeTable("the operator converges to the same objects", func(fail writeHook) {
		failNext := false
		own := namespace
		writes.intercept(func(at string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			mu.Lock()
			failNext = !failNext
			now := failNext
			mu.Unlock()
			if now && at[:min(len(own), len(at))] == own {
				return fail(at, req, next)
			}
			return next.RoundTrip(req)
		})
		a := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		b := runPod(podSpec{name: "b", labels: map[string]string{"app": "b"}})
		sg := create("faults", "type: NodePort\nexposeGroups: true\n"+twoGroups)
		Eventually(endpointsOf("faults-b")).Should(Equal([]string{at("b/http", b, 80, "rs")}))
		Eventually(endpointsOf("faults")).Should(Equal([]string{at("a/http", a, 80, "rs"), at("b/http", b, 80, "rs")}))
		Eventually(ready(sg)).Should(HavePrefix("True"))
		svc := service(Default, "faults")

		setReady(a, false)
		edit(b, func(p *corev1.Pod) { p.Labels["app"] = "a" })
		Eventually(endpointsOf("faults")).Should(ConsistOf(at("a/http", a, 80, ""), at("a/http", b, 80, "rs")))
		exposed := service(Default, "faults-b")
		respec(sg, `
type: NodePort
sessionAffinity: ClientIP
exposeGroups: true
groups:
- {name: a, selector: {matchLabels: {app: a}}}
ports:
- {name: http, port: 80, targetPort: 8080}
`)
		Eventually(endpointsOf("faults")).Should(ConsistOf(at("a/http", a, 8080, ""), at("a/http", b, 8080, "rs")))
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		Eventually(ready(sg)).Should(HavePrefix("True"))
		Eventually(func(g Gomega) int { return len(slicesOf(g, "faults")) }).Should(Equal(1))
		now := service(Default, "faults")
		Expect(now.UID).To(Equal(svc.UID))
		Expect(now.Spec.ClusterIP).To(Equal(svc.Spec.ClusterIP))
		Expect(now.Spec.Ports[0].NodePort).To(Equal(svc.Spec.Ports[0].NodePort))
		Expect(now.Spec.SessionAffinity).To(Equal(corev1.ServiceAffinityClientIP))
		Eventually(endpointsOf("faults-a")).Should(ConsistOf(at("a/http", a, 8080, ""), at("a/http", b, 8080, "rs")))
		Expect(slicesOf(Default, "faults-a")).To(HaveLen(1))
		Eventually(gone(exposed)).Should(BeTrue())
	},
		Entry("failing inside the API server", writeHook(func(_ string, req *http.Request, _ http.RoundTripper) (*http.Response, error) {
			return answer(req, apierrors.NewInternalError(errors.New("injected")).ErrStatus), nil
		})),
		Entry("in conflict", writeHook(func(_ string, req *http.Request, _ http.RoundTripper) (*http.Response, error) {
			return answer(req, apierrors.NewConflict(corev1.Resource("things"), "thing", errors.New("injected")).ErrStatus), nil
		})),
		Entry("never arriving", writeHook(func(string, *http.Request, http.RoundTripper) (*http.Response, error) {
			return nil, errors.New("injected: connection lost")
		})),
		Entry("arriving, but its answer lost", writeHook(func(_ string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			if response, err := next.RoundTrip(req); err == nil {
				_ = response.Body.Close()
			}
			return nil, errors.New("injected: answer lost")
		})),
	)
})

var _ = Describe("The largest", func() {
	It("ServiceGroup of 200 groups and 100 ports is served", func() {
		sg := &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Name: "large", Namespace: namespace}}
		for i := range 200 {
			sg.Spec.Groups = append(sg.Spec.Groups, v1alpha1.Group{Name: numbered("group", i), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"group": numbered("group", i)}}})
		}
		for i := range 100 {
			sg.Spec.Ports = append(sg.Spec.Ports, v1alpha1.Port{Name: numbered("port", i), Port: int32(1000 + i), Backends: []v1alpha1.Backend{
				{Group: numbered("group", 2*i)}, {Group: numbered("group", 2*i+1)}}})
		}
		Expect(k8s.Create(ctx, sg)).To(Succeed())
		pod := runPod(podSpec{name: "last", labels: map[string]string{"group": "group-199"}})
		Eventually(endpointsOf("large")).Should(ConsistOf(at("group-199/port-99", pod, 1099, "rs")))
		Eventually(func(g Gomega) int { return len(slicesOf(g, "large")) }).Should(Equal(200))
		Eventually(ready(sg)).Should(HaveSuffix("and 89 more"))
	})
})
