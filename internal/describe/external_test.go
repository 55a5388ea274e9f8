package describe_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/describe"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// TestExternalGroups: addresses outside the cluster are shown and explained as such, not as pods.
func TestExternalGroups(t *testing.T) {
	ready, failing := true, false
	o := &describe.Observed{
		Group: &v1alpha1.ServiceGroup{
			ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "shop"},
			Spec: v1alpha1.ServiceGroupSpec{
				Groups: []v1alpha1.Group{{Name: "primary", External: &v1alpha1.External{Hostname: "db.example.com"}}},
				Ports:  []v1alpha1.Port{{Port: 5432}},
			},
			Status: v1alpha1.ServiceGroupStatus{
				Groups: []v1alpha1.GroupStatus{{Name: "primary", Matched: 3, Ready: 1, LeftOut: 1}},
				Conditions: []metav1.Condition{{
					Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonAddressNotAllowed,
					Message: "10.0.0.1 is not allowed" + plan.RestIsServed,
				}},
			},
		},
		Service: &corev1.Service{},
		Slices: []*discoveryv1.EndpointSlice{{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelGroup: "primary"}},
			Endpoints: []discoveryv1.Endpoint{
				{Addresses: []string{"192.0.2.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}},
				{Addresses: []string{"192.0.2.2"}, Conditions: discoveryv1.EndpointConditions{Ready: &failing}},
			},
		}},
		Pods: []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"}}},
	}
	explain := func(pod string) string {
		explanation, err := describe.Explain(o, pod)
		if err != nil {
			t.Fatal(err)
		}
		return explanation.Text(describe.Paint(false), describe.Narrow)
	}
	for what, test := range map[string]struct {
		text string
		want []string
	}{
		"status":  {describe.StatusOf(o).Text(describe.Paint(false), describe.Narrow), []string{"Group primary  external db.example.com  1 of 3 addresses ready", "-  192.0.2.1"}},
		"explain": {explain(""), []string{"(a part of the spec is not served", "3 addresses", "in   192.0.2.1", "out  192.0.2.2  it fails its health check", "out  1 address"}},
		"one pod": {explain("web"), []string{"not selected: the group has addresses outside the cluster in place of pods"}},
	} {
		for _, want := range test.want {
			if !strings.Contains(test.text, want) {
				t.Errorf("%s has no %q:\n%s", what, want, test.text)
			}
		}
	}
}
