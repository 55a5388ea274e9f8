package endpointslices_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
	"github.com/servicegroup-dev/servicegroup/internal/plan/endpointslices"
)

// BenchmarkPodEvent is the planning for one pod's flip, by what has nothing to do with the pod: the ports of its
// group, and the other groups. The library plans every group.
func BenchmarkPodEvent(b *testing.B) {
	planners := map[string]func(*plan.Behind, *plan.Target) plan.Slices{"ours": byMemo, "library": everyGroupByLibrary}
	for _, size := range []struct{ ports, groups, pods int }{
		{1, 1, 100}, {10, 1, 100}, {100, 1, 100}, {10, 20, 10}, {10, 200, 10},
	} {
		for _, name := range []string{"ours", "library"} {
			b.Run(fmt.Sprintf("ports=%d/groups=%d/pods=%d/%s", size.ports, size.groups, size.pods, name), func(b *testing.B) {
				benchmarkPodEvent(b, size.ports, size.groups, size.pods, planners[name])
			})
		}
	}
}

func benchmarkPodEvent(b *testing.B, ports, groups, podsOfGroup int, planSlices func(*plan.Behind, *plan.Target) plan.Slices) {
	spec := v1alpha1.ServiceGroupSpec{}
	var pods []*corev1.Pod
	for g := range groups {
		labels := map[string]string{"app": fmt.Sprint(g)}
		spec.Groups = append(spec.Groups, v1alpha1.Group{Name: fmt.Sprintf("g%d", g), Selector: &metav1.LabelSelector{MatchLabels: labels}})
		for p := range podsOfGroup {
			name := fmt.Sprintf("pod-%d-%d", g, p)
			pods = append(pods, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name), Labels: labels, ResourceVersion: "1"},
				Spec:       corev1.PodSpec{NodeName: "node"},
				Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.1.%d.%d", g, 1+p)}}},
			})
		}
	}
	for p := range ports {
		spec.Ports = append(spec.Ports, v1alpha1.Port{Name: fmt.Sprintf("p%d", p), Port: int32(8000 + p)})
	}
	entry, err := plan.Resolve(&spec)
	if err != nil {
		b.Fatal(err)
	}
	behind := &plan.Behind{Entry: entry, EntryHash: "hash", Nodes: plan.Nodes{"node": {ObjectMeta: metav1.ObjectMeta{Name: "node"}}}}
	target := &plan.Target{Service: &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", UID: "service-uid", ResourceVersion: "1"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
	}}
	flip := [][]corev1.PodCondition{{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}, nil}
	event := func(i int) plan.Slices {
		pods[0].Status.Conditions, pods[0].ResourceVersion = flip[i%2], fmt.Sprint(i)
		behind.Members = plan.Members(target.Service, entry, plan.Observed{Pods: pods, Nodes: behind.Nodes})
		changes := planSlices(behind, target)
		target.Slices = written(changes, i)
		return changes
	}
	event(1)
	event(1) // so that it remembers
	for i := 2; b.Loop(); i++ {
		if changes := event(i); len(changes.Update) != 1 || len(changes.Create)+len(changes.Delete) != 0 {
			b.Fatalf("%d creates, %d updates, %d deletes", len(changes.Create), len(changes.Update), len(changes.Delete))
		}
	}
}

// written are the slices as they are after the changes, with names and versions as the API server gives them.
func written(changes plan.Slices, version int) []*discoveryv1.EndpointSlice {
	for i, slice := range changes.Create {
		slice.Name, slice.ResourceVersion = fmt.Sprintf("slice-%03d", i), fmt.Sprint(version)
	}
	for _, slice := range changes.Update {
		slice.ResourceVersion = fmt.Sprint(version)
	}
	return changes.Final
}

func byMemo(b *plan.Behind, target *plan.Target) plan.Slices {
	var changes plan.Slices
	changes, target.Settled = b.SlicesOf(target)
	return changes
}

func everyGroupByLibrary(b *plan.Behind, target *plan.Target) plan.Slices {
	existing := plan.SortSlices(target.Service, b.Entry, target.Slices)
	var all plan.Slices
	for i := range b.Members {
		group := b.Members[i].Group
		all.Add(byLibrary(&endpointslices.Group{
			Service: plan.GroupService(target.Service, b.Entry, group), Pods: b.Members[i].Pods,
			Nodes: b.Nodes, Existing: existing.ByGroup[group],
		}))
	}
	return all
}
