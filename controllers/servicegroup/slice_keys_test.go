package servicegroup

import (
	"maps"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// A slice wakes its ServiceGroup, and memory knows the Service of a group by a key that no
// ServiceGroup can have.
func TestSliceKeys(t *testing.T) {
	for name, test := range map[string]struct {
		service, group, owner string
		want                  map[string]string
	}{
		"of a ServiceGroup":                {"web", "web", "web", map[string]string{"web": "web"}},
		"of a group":                       {"web-a", "web", "web-a", map[string]string{"web": "web/a"}},
		"without our label":                {"web", "", "web", map[string]string{"web": "web"}},
		"moved to another Service by hand": {"other", "web", "web", map[string]string{"web": "web"}},
		"without any label":                {"", "", "web", map[string]string{"web": "web"}},
	} {
		slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Labels: map[string]string{v1alpha1.LabelGroup: "a"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "Service", Name: test.owner, Controller: ptr.To(true)}},
		}}
		for label, value := range map[string]string{discoveryv1.LabelServiceName: test.service, v1alpha1.LabelServiceGroup: test.group} {
			if value != "" {
				slice.Labels[label] = value
			}
		}
		got := map[types.NamespacedName]types.NamespacedName{}
		for group, known := range sliceKeys(slice) {
			got[group] = known
		}
		want := map[types.NamespacedName]types.NamespacedName{}
		for group, known := range test.want {
			want[types.NamespacedName{Namespace: "ns", Name: group}] = types.NamespacedName{Namespace: "ns", Name: known}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}
