package integration

import (
	"fmt"
	"net/http"
	"sync/atomic"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

var _ = Describe("The status of a ServiceGroup", func() {
	const spec = "type: NodePort\n" + oneGroup + "ports: [{name: http, port: 80}]"

	It("that somebody edited is put right by one write", func() {
		runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("edited", spec)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		quiet()
		before, svc := statusOf(sg)(Default), service(Default, "edited")
		for what, change := range map[string]func(*v1alpha1.ServiceGroupStatus){
			"nothing left":     func(s *v1alpha1.ServiceGroupStatus) { *s = v1alpha1.ServiceGroupStatus{} },
			"a condition":      func(s *v1alpha1.ServiceGroupStatus) { s.Conditions[0].Status = metav1.ConditionFalse },
			"a message":        func(s *v1alpha1.ServiceGroupStatus) { s.Conditions[0].Message = "by hand" },
			"no conditions":    func(s *v1alpha1.ServiceGroupStatus) { s.Conditions = nil },
			"a generation":     func(s *v1alpha1.ServiceGroupStatus) { s.ObservedGeneration = 77 },
			"a virtual IP":     func(s *v1alpha1.ServiceGroupStatus) { s.ClusterIP, s.ClusterIPs = "10.0.9.9", []string{"10.0.9.9"} },
			"a nodePort":       func(s *v1alpha1.ServiceGroupStatus) { s.Ports[0].NodePort = 30083 },
			"a number of pods": func(s *v1alpha1.ServiceGroupStatus) { s.Groups[0].Ready = 7 },
			"no group":         func(s *v1alpha1.ServiceGroupStatus) { s.Groups = nil },
			"a load balancer": func(s *v1alpha1.ServiceGroupStatus) {
				s.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
			},
		} {
			writes.reset()
			Eventually(func() error {
				if err := k8s.Get(ctx, client.ObjectKeyFromObject(sg), sg); err != nil {
					return err
				}
				change(&sg.Status)
				return k8s.Status().Update(ctx, sg)
			}).Should(Succeed(), what)
			Eventually(func(g Gomega) v1alpha1.ServiceGroupStatus {
				now := statusOf(sg)(g)
				for i := range now.Conditions {
					now.Conditions[i].LastTransitionTime = before.Conditions[i].LastTransitionTime
				}
				return now
			}).Should(Equal(before), what)
			Expect(writes.in(namespace)).To(Equal(map[string]int{"servicegroups/status": 1}), what)
		}
		quiet()
		Expect(writes.in(namespace)).To(Equal(map[string]int{"servicegroups/status": 1}))
		Expect(service(Default, "edited")).To(Equal(svc))
	})

	It("wakes nobody when the operator writes it", func() {
		runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("lb", "type: LoadBalancer\n"+oneGroup+"ports: [{name: http, port: 80}]")
		Eventually(ready(sg)).Should(HavePrefix("True"))
		quiet()
		before, svc := reconciliations(), service(Default, "lb")
		for i := range 5 {
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("198.51.100.%d", i)}}
			Expect(k8s.Status().Update(ctx, svc)).To(Succeed())
			Eventually(func(g Gomega) corev1.LoadBalancerStatus { return statusOf(sg)(g).LoadBalancer }).Should(Equal(svc.Status.LoadBalancer))
			quiet()
		}
		// One each. A write that the manager hears of after it found something newer may wake it; all five would be 10.
		Expect(reconciliations() - before).To(And(BeNumerically(">=", 5), BeNumerically("<", 10)))
	})

	It("goes on being written in a namespace that is being deleted, and the log has no word of the events refused there", func() {
		pod := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("last", spec)
		Eventually(ready(sg)).Should(HavePrefix("True"))
		var refused atomic.Int32
		own := namespace
		writes.intercept(func(at string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			response, err := next.RoundTrip(req)
			if err == nil && at == own+"/events" && response.StatusCode == http.StatusForbidden {
				refused.Add(1)
			}
			return response, err
		})
		Expect(k8s.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})).To(Succeed())
		for _, to := range []bool{false, true, false} {
			setReady(pod, to)
			Eventually(ready(sg)).Should(HavePrefix(map[bool]string{true: "True", false: "False"}[to]))
		}
		Eventually(refused.Load).Should(BeNumerically(">=", 1))
		quiet()
		Expect(CurrentSpecReport().CapturedGinkgoWriterOutput).NotTo(ContainSubstring("event"))
	})
})
