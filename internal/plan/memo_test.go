package plan_test

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// versioned numbers the objects of a test as the API server does.
type versioned struct{ last int }

func (v *versioned) next() string {
	v.last++
	return fmt.Sprint(v.last)
}

// settled is a target of two groups with a pod each, whose slices are right, with what is remembered of it.
func settled(t *testing.T, v *versioned) (*plan.Behind, *plan.Target) {
	t.Helper()
	entry, err := plan.Resolve(&v1alpha1.ServiceGroupSpec{
		Groups: []v1alpha1.Group{
			{Name: "a", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}},
			{Name: "b", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "b"}}},
		},
		Ports: []v1alpha1.Port{{Port: 80}},
	})
	if err != nil {
		t.Fatal(err)
	}
	target := &plan.Target{Service: &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", UID: "service-uid", ResourceVersion: v.next()},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
	}}
	b := &plan.Behind{Entry: entry, EntryHash: "hash", Nodes: plan.Nodes{"node": {ObjectMeta: metav1.ObjectMeta{Name: "node"}}}}
	for i, group := range []string{"a", "b"} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: group, Namespace: "ns", UID: types.UID(group), ResourceVersion: v.next()},
			Spec:       corev1.PodSpec{NodeName: "node"},
			Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.1.0.%d", i+1)}}},
		}
		b.Members = append(b.Members, plan.Membership{Group: group, Pods: []*corev1.Pod{pod}})
	}
	changes, memo := b.SlicesOf(target)
	if len(memo) > 0 {
		t.Fatalf("what is to be created is remembered as right: %v", memo)
	}
	for _, slice := range changes.Create {
		slice.Name, slice.ResourceVersion = slice.Labels[v1alpha1.LabelGroup], v.next()
		target.Slices = append(target.Slices, slice)
	}
	changes, target.Settled = b.SlicesOf(target)
	if len(target.Settled) != 2 || !changes.Empty() {
		t.Fatalf("remembered %v, and to change %v", target.Settled, changes)
	}
	return b, target
}

// What a group's slices are planned from is in its fingerprint: each change has the group planned again, and
// the other one only where it is about that, too.
func TestMemoForgetsWhatChanged(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*versioned, *plan.Behind, *plan.Target)
		again  []string // groups that are planned again
	}{
		"nothing":      {func(*versioned, *plan.Behind, *plan.Target) {}, nil},
		"another time": {func(_ *versioned, _ *plan.Behind, target *plan.Target) { target.Trigger = "2026-01-02T03:04:05Z" }, nil},
		"a pod": {func(v *versioned, b *plan.Behind, _ *plan.Target) {
			b.Members[0].Pods[0].ResourceVersion = v.next()
		}, []string{"a"}},
		"a pod that went": {func(_ *versioned, b *plan.Behind, _ *plan.Target) { b.Members[0].Pods = nil }, []string{"a"}},
		"a slice": {func(v *versioned, _ *plan.Behind, target *plan.Target) {
			target.Slices[1].ResourceVersion = v.next()
		}, []string{"b"}},
		"a slice that went": {func(_ *versioned, _ *plan.Behind, target *plan.Target) { target.Slices = target.Slices[:1] }, []string{"b"}},
		"a zone": {func(_ *versioned, b *plan.Behind, _ *plan.Target) {
			b.Nodes["node"].Labels = map[string]string{corev1.LabelTopologyZone: "z"}
		}, []string{"a", "b"}},
		"a node that went": {func(_ *versioned, b *plan.Behind, _ *plan.Target) { delete(b.Nodes, "node") }, []string{"a", "b"}},
		"the Service": {func(v *versioned, _ *plan.Behind, target *plan.Target) {
			target.Service.ResourceVersion = v.next()
		}, []string{"a", "b"}},
		"the spec": {func(_ *versioned, b *plan.Behind, _ *plan.Target) { b.EntryHash = "other" }, []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := &versioned{}
			b, target := settled(t, v)
			before := target.Settled
			test.change(v, b, target)
			for _, slice := range target.Slices {
				slice.Endpoints = nil // seen by who looks
			}
			changes, _ := b.SlicesOf(target)
			var again []string
			for _, slice := range slices.Concat(changes.Create, changes.Update, changes.Delete) {
				again = append(again, slice.Labels[v1alpha1.LabelGroup])
			}
			slices.Sort(again)
			if !slices.Equal(again, test.again) {
				t.Errorf("planned again %v, want %v (remembered %v)", again, test.again, before)
			}
		})
	}
}

// With what is remembered the plan is the one without, after any edits.
func TestMemoChangesNoPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := &versioned{}
		w := &world{
			service: &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", UID: "service-uid", ResourceVersion: v.next()},
				Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", IPFamilies: drawFamilies(t)},
			},
			spec: drawSpec(t), pods: map[string]*corev1.Pod{}, slices: map[string]*discoveryv1.EndpointSlice{},
		}
		var memo plan.Memo
		for range rapid.IntRange(2, 6).Draw(t, "rounds") {
			w.edit(t)
			for _, pod := range w.pods {
				if pod.ResourceVersion == "" { // edits make pods anew
					pod.ResourceVersion = v.next()
				}
			}
			for range 2 {
				w.version(t, v)
				behind, target := w.behind(t)
				behind.EntryHash = string(asYAML(t, w.spec))
				plain, _ := behind.SlicesOf(target)
				target.Settled = memo
				var remembering plan.Slices
				remembering, memo = behind.SlicesOf(target)
				if !apiequality.Semantic.DeepEqual(plain, remembering) {
					t.Fatalf("remembering, the plan is\n%v\nand without\n%v", remembering, plain)
				}
				w.apply(t, plain)
			}
		}
	})
}

// version gives a version of its own to each slice that has another content than before.
func (w *world) version(t *rapid.T, v *versioned) {
	for _, slice := range w.slices {
		content := string(asYAML(t, []any{slice.Labels, slice.OwnerReferences, slice.Ports, slice.Endpoints}))
		if slice.Annotations["content"] != content {
			slice.Annotations = map[string]string{"content": content}
			slice.ResourceVersion = v.next()
		}
	}
}
