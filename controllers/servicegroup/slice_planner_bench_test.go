package servicegroup

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// BenchmarkOneFlip is the planning for one pod's flip in a group of 5,000 among 20,000 pods.
func BenchmarkOneFlip(b *testing.B) {
	spec := v1alpha1.ServiceGroupSpec{
		Groups: []v1alpha1.Group{{Name: "g", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}}},
		Ports:  []v1alpha1.Port{{Port: 80}},
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", UID: "service-uid"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
	}
	var pods []*corev1.Pod
	for i := range 20000 {
		app := "x"
		if i >= 5000 {
			app = "y"
		}
		name := fmt.Sprintf("pod-%d", i)
		pods = append(pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name), Labels: map[string]string{"app": app, "hash": name}},
			Spec:       corev1.PodSpec{NodeName: "node"},
			Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.%d.%d.%d", i/62500, i/250%250, 1+i%250)}}},
		})
	}
	nodes := plan.Nodes{"node": &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}}
	served := plan.ServedOf(&spec)
	compute := func(found []*discoveryv1.EndpointSlice) plan.Slices {
		members, err := plan.Members(svc, served, plan.Observed{Pods: pods, Nodes: nodes})
		if err != nil {
			b.Fatal(err)
		}
		changes, err := computeSlices(endpointSlicePlanner{}, sliceInput{
			service: svc, served: served, members: members, found: found, nodes: nodes, trigger: time.Unix(1, 0)})
		if err != nil {
			b.Fatal(err)
		}
		return changes
	}
	found := compute(nil).Final
	for i, slice := range found {
		slice.Name = fmt.Sprintf("slice-%d", i)
	}
	flip := [][]corev1.PodCondition{{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}, nil}
	for i := 0; b.Loop(); i++ {
		pods[7].Status.Conditions = flip[i%2]
		changes := compute(found)
		if len(changes.Update) != 1 || len(changes.Create)+len(changes.Delete) != 0 {
			b.Fatalf("%d creates, %d updates, %d deletes", len(changes.Create), len(changes.Update), len(changes.Delete))
		}
		found = changes.Final
	}
}
