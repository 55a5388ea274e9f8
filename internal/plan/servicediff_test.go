package plan_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

func TestWhatOthersAddToAServiceIsUnset(t *testing.T) {
	for name, test := range map[string]struct {
		add  func(*corev1.Service)
		want string
	}{
		"nothing":      {func(*corev1.Service) {}, ""},
		"a label":      {func(s *corev1.Service) { s.Labels = map[string]string{"team": "blue"} }, ""},
		"selector":     {func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "x"} }, `"selector":null`},
		"unready":      {func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }, `"publishNotReadyAddresses":null`},
		"distribution": {func(s *corev1.Service) { s.Spec.TrafficDistribution = ptr.To("PreferClose") }, `"trafficDistribution":null`},
		"ranges":       {func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"} }, ""},
		"internal": {func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
		}, `"internalTrafficPolicy":null`},
		"internal, the default": {func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyCluster)
		}, ""},
		"external": {func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }, `"externalTrafficPolicy":null`},
		"a name":   {func(s *corev1.Service) { s.Spec.ExternalName = "example.com" }, `"externalName":null`},
		"a name as the type": {func(s *corev1.Service) {
			s.Spec.ExternalName, s.Spec.Type = "example.com", corev1.ServiceTypeExternalName
		}, ""},
		"a load balancer's": {func(s *corev1.Service) {
			s.Spec.ExternalIPs, s.Spec.LoadBalancerIP = []string{"192.0.2.1"}, "192.0.2.1"
		}, ""},
		"another proxy": {func(s *corev1.Service) { s.Labels = map[string]string{v1alpha1.LabelServiceProxyName: "x"} },
			`"labels":{"service.kubernetes.io/service-proxy-name":null}`},
		"a nodePort that was given up": {func(s *corev1.Service) {
			s.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
			s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30000}}
		}, `"ports":[{"name":"http"`},
	} {
		t.Run(name, func(t *testing.T) {
			sg := &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: *goodSpec()}
			sg.Spec.Dataplane = v1alpha1.DataplaneCluster
			sg.Spec.Type, sg.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeLoadBalancer, ptr.To(false)
			live := &corev1.Service{}
			test.add(live)
			diff, err := plan.DiffService(live, plan.Desired{Group: sg})
			if err != nil {
				t.Fatal(err)
			}
			if diff.Repair != (test.want != "") {
				t.Errorf("repair %t", diff.Repair)
			}
			patch, err := plan.RepairPatch(live, plan.Service(plan.Desired{Group: sg}))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(patch), test.want) {
				t.Errorf("patch %s, want %s in it", patch, test.want)
			}
		})
	}
}

func TestHeadlessChange(t *testing.T) {
	for name, test := range map[string]struct {
		live, kind, ip string
		refused        bool
	}{
		"stays headless":            {live: "None", ip: "None"},
		"keeps its address":         {live: "10.0.0.1"},
		"becomes headless":          {live: "10.0.0.1", ip: "None", refused: true},
		"ceases to be headless":     {live: "None", refused: true},
		"headless to ExternalName":  {live: "None", kind: "ExternalName"},
		"another address":           {live: "10.0.0.1", ip: "10.0.0.2"}, // the API server refuses it
		"ExternalName gets address": {live: "", kind: "ClusterIP"},
	} {
		live := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: test.live}}
		if test.live == "" {
			live.Spec.Type = corev1.ServiceTypeExternalName
		}
		got := plan.HeadlessChange(live, &v1alpha1.ServiceGroupSpec{Type: corev1.ServiceType(test.kind), ClusterIP: test.ip})
		if (got != nil) != test.refused {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
