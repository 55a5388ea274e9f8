package plan_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// TestRestoredClusterIPs: a Service that is gone asks for the addresses it had, as far as the spec of now
// leaves them open and has their families.
func TestRestoredClusterIPs(t *testing.T) {
	const four, six = "10.0.0.4", "fd00::6"
	dual := []string{four, six}
	type spec = v1alpha1.ServiceGroupSpec
	for name, test := range map[string]struct {
		spec spec
		had  []string
		want []string
	}{
		"one":                      {spec{}, []string{four}, []string{four}},
		"two, of a time before":    {spec{}, dual, dual},
		"one of two":               {spec{IPFamilies: []corev1.IPFamily{"IPv4"}}, dual, []string{four}},
		"one family, named":        {spec{IPFamilies: []corev1.IPFamily{"IPv6"}}, []string{six}, []string{six}},
		"another family now":       {spec{IPFamilies: []corev1.IPFamily{"IPv6"}}, []string{four}, nil},
		"single now":               {spec{IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack)}, dual, []string{four}},
		"two":                      {spec{IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicyRequireDualStack)}, dual, dual},
		"two, the first named":     {spec{IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicyPreferDualStack), IPFamilies: []corev1.IPFamily{"IPv4"}}, dual, dual},
		"two, named":               {spec{IPFamilies: []corev1.IPFamily{"IPv4", "IPv6"}}, dual, dual},
		"two, the other way round": {spec{IPFamilies: []corev1.IPFamily{"IPv6", "IPv4"}}, dual, nil},
		"two, one address given":   {spec{IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicyPreferDualStack), ClusterIP: four}, dual, dual},
		"another address given":    {spec{IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicyPreferDualStack), ClusterIP: "10.0.0.5"}, dual, []string{"10.0.0.5"}},
		"headless now":             {spec{ClusterIP: "None"}, dual, []string{"None"}},
	} {
		t.Run(name, func(t *testing.T) {
			sg := &v1alpha1.ServiceGroup{Spec: test.spec}
			want, _ := plan.RestoredService(plan.Desired{Group: sg, Had: plan.Allocated{ClusterIPs: test.had}}, nil)
			if got := want.Spec.ClusterIPs; !slices.Equal(got, test.want) {
				t.Errorf("asks for %v, want %v", got, test.want)
			}
		})
	}
}
