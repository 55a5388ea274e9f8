package servicegroup

import (
	"fmt"
	"hash/maphash"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"pgregory.net/rapid"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

func newBuckets() (*labelBuckets, toolscache.Indexer) {
	buckets := &labelBuckets{seed: maphash.MakeSeed()}
	return buckets, toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{
		toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc, fieldBucket: buckets.index,
	})
}

func podOf(i int, podLabels map[string]string) *corev1.Pod {
	name := fmt.Sprintf("pod-%05d", i)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name), Labels: podLabels},
		Spec:       corev1.PodSpec{NodeName: "node"},
		Status: corev1.PodStatus{
			PodIPs:     []corev1.PodIP{{IP: fmt.Sprintf("10.%d.%d.%d", i/62500, i/250%250, 1+i%250)}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

// What is listed by the anchors of any selectors is what a look at every pod finds, each pod once.
func TestPodsAreFoundByTheirLabels(t *testing.T) {
	key := types.NamespacedName{Namespace: "ns", Name: "sg"}
	label := rapid.MapOfN(rapid.SampledFrom([]string{"app", "tier"}), rapid.SampledFrom([]string{"a", "b"}), 0, 2)
	rapid.Check(t, func(t *rapid.T) {
		buckets, indexer := newBuckets()
		for i := range rapid.IntRange(0, 20).Draw(t, "pods") {
			pod := podOf(i, map[string]string{"app": rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "app")})
			if rapid.Bool().Draw(t, "tier") {
				pod.Labels["tier"] = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "value")
			}
			if rapid.IntRange(0, 3).Draw(t, "elsewhere") == 0 {
				pod.Namespace = "other"
			}
			if err := indexer.Add(pod); err != nil {
				t.Fatal(err)
			}
		}
		var selectors []labels.Selector
		for range rapid.IntRange(1, 3).Draw(t, "selectors") {
			text := rapid.SampledFrom([]string{"app=a", "app in (a,b)", "tier", "!tier", "app=b,tier=a", "app!=a"}).Draw(t, "selector")
			selector, err := labels.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			selectors = append(selectors, selector, labels.SelectorFromSet(label.Draw(t, "set")))
		}
		index := newPodIndex()
		index.set(key, selectors)
		match := func(pod *corev1.Pod) bool { return anyMatches(selectors, labels.Set(pod.Labels)) }
		found, err := buckets.pods(indexer, "ns", index.anchors(key), match)
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, pod := range found {
			got = append(got, pod.Name)
		}
		for _, item := range indexer.List() {
			if pod := item.(*corev1.Pod); pod.Namespace == "ns" && match(pod) {
				want = append(want, pod.Name)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("found %v, want %v", got, want)
		}
	})
}

// 10,000 pods in one group are 100 slices, and the flip of one of them changes one.
func TestTenThousandPodsInOneGroup(t *testing.T) {
	buckets, indexer := newBuckets()
	for i := range 10_000 {
		if err := indexer.Add(podOf(i, map[string]string{"app": "x"})); err != nil {
			t.Fatal(err)
		}
	}
	entry, err := plan.Resolve(&v1alpha1.ServiceGroupSpec{
		Groups: []v1alpha1.Group{{Name: "g", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}}},
		Ports:  []v1alpha1.Port{{Port: 80}},
	})
	if err != nil {
		t.Fatal(err)
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", UID: "service-uid"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
	}
	nodes := plan.Nodes{"node": &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}}
	compute := func(found []*discoveryv1.EndpointSlice) plan.Slices {
		t.Helper()
		pods, err := buckets.pods(indexer, "ns", []plan.Anchor{{Key: "app", Value: "x"}}, plan.Eligible)
		if err != nil {
			t.Fatal(err)
		}
		members := plan.Members(svc, entry, plan.Observed{Pods: pods, Nodes: nodes})
		behind := plan.Behind{Entry: entry, Members: members, Nodes: nodes}
		changes, _ := behind.SlicesOf(&plan.Target{Service: svc, Slices: found})
		return changes
	}
	first := compute(nil)
	if len(first.Create) != 100 {
		t.Fatalf("%d slices, want 100", len(first.Create))
	}
	for i, slice := range first.Final {
		slice.Name = fmt.Sprintf("slice-%d", i)
	}
	flipped := podOf(4711, map[string]string{"app": "x"})
	flipped.Status.Conditions = nil
	if err := indexer.Update(flipped); err != nil {
		t.Fatal(err)
	}
	if second := compute(first.Final); len(second.Update) != 1 || len(second.Create)+len(second.Delete) > 0 {
		t.Errorf("one flip creates %d, updates %d, deletes %d slices", len(second.Create), len(second.Update), len(second.Delete))
	}
}
