package endpointslices_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/internal/plan/endpointslices"
)

// A new endpoint goes into the fullest slice that has room, not into a new one.
func TestFullestSliceIsFilledFirst(t *testing.T) {
	g := &endpointslices.Group{
		Service: &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", UID: "service-uid"},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
		},
		Nodes: map[string]*corev1.Node{"node": {ObjectMeta: metav1.ObjectMeta{Name: "node"}}},
	}
	for i := range 161 {
		g.Pods = append(g.Pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%03d", i), Namespace: "ns"}, Spec: corev1.PodSpec{NodeName: "node"},
			Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.1.0.%d", i)}}},
		})
	}
	all := g.Pods
	g.Pods = all[:160] // slices of 100 and 60
	g.Existing = endpointslices.Plan(g).Final
	for i, slice := range g.Existing {
		slice.Name = fmt.Sprint(i)
	}
	g.Pods = all[60:160] // of 40 and 60
	g.Existing = endpointslices.Plan(g).Final
	g.Pods = all[60:]
	var sizes []int
	changes := endpointslices.Plan(g)
	for _, slice := range changes.Final {
		sizes = append(sizes, len(slice.Endpoints))
	}
	if fmt.Sprint(sizes) != "[40 61]" || len(changes.Update) != 1 {
		t.Errorf("slices of %v endpoints, %d updates", sizes, len(changes.Update))
	}
}
