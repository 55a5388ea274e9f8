package servicegroup

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// After any sequence of edits the index finds what asking every selector finds, and forgets what is
// gone.
func TestPodIndexIsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		index, all := newPodIndex(), map[types.NamespacedName][]labels.Selector{}
		for range rapid.IntRange(1, 20).Draw(t, "edits") {
			key := types.NamespacedName{
				Namespace: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace"),
				Name:      rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "name"),
			}
			selectors := drawSelectors(t)
			index.set(key, selectors)
			all[key] = selectors
		}
		set := labels.Set(rapid.MapOfN(rapid.SampledFrom([]string{"k1", "k2", "k3"}),
			rapid.SampledFrom([]string{"v1", "v2", ""}), 0, 3).Draw(t, "labels"))
		var want []types.NamespacedName
		for key, selectors := range all {
			if key.Namespace == "a" && anyMatches(selectors, set) {
				want = append(want, key)
			}
		}
		got := index.match("a", set)
		byName := func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }
		slices.SortFunc(got, byName)
		slices.SortFunc(want, byName)
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for key := range all {
			index.set(key, nil)
		}
		if len(index.namespaces) != 0 || len(index.filed) != 0 {
			t.Fatalf("left over: %v %v", index.namespaces, index.filed)
		}
	})
}

func drawSelectors(t *rapid.T) []labels.Selector {
	var selectors []labels.Selector
	for range rapid.IntRange(0, 3).Draw(t, "selectors") {
		var selector metav1.LabelSelector
		for range rapid.IntRange(1, 3).Draw(t, "requirements") {
			requirement := metav1.LabelSelectorRequirement{
				Key: rapid.SampledFrom([]string{"k1", "k2", "k3"}).Draw(t, "key"),
				Operator: rapid.SampledFrom([]metav1.LabelSelectorOperator{metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn,
					metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist}).Draw(t, "operator"),
			}
			if requirement.Operator == metav1.LabelSelectorOpIn || requirement.Operator == metav1.LabelSelectorOpNotIn {
				requirement.Values = rapid.SliceOfN(rapid.SampledFrom([]string{"v1", "v2", ""}), 1, 2).Draw(t, "values")
			}
			selector.MatchExpressions = append(selector.MatchExpressions, requirement)
		}
		parsed, err := metav1.LabelSelectorAsSelector(&selector)
		if err != nil {
			t.Fatal(err)
		}
		selectors = append(selectors, parsed)
	}
	return selectors
}

// A thousand ServiceGroups that share one label are filed under the other, so that a pod event does
// not try them all.
func TestPodIndexFilesUnderTheRareLabel(t *testing.T) {
	index := newPodIndex()
	for i := range 1000 {
		selector := labels.SelectorFromSet(labels.Set{"a-part-of": "shop", "name": fmt.Sprint(i)})
		index.set(types.NamespacedName{Namespace: "ns", Name: fmt.Sprint(i)}, []labels.Selector{selector})
	}
	common := index.namespaces["ns"].byAnchor[plan.Anchor{Key: "a-part-of", Value: "shop"}]
	if len(common) > 1 {
		t.Errorf("%d ServiceGroups are filed under the label that all have", len(common))
	}
	got := index.match("ns", labels.Set{"a-part-of": "shop", "name": "7"})
	if len(got) != 1 || got[0].Name != "7" {
		t.Errorf("got %v", got)
	}
}

// A selector of tens of thousands of values costs one entry, and is found all the same.
func TestPodIndexFilesManyValuesUnderTheKey(t *testing.T) {
	index := newPodIndex()
	key := types.NamespacedName{Namespace: "ns", Name: "many"}
	values := make([]string, 33_000)
	for i := range values {
		values[i] = fmt.Sprint(i)
	}
	selector, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "name", Operator: metav1.LabelSelectorOpIn, Values: values},
	}})
	if err != nil {
		t.Fatal(err)
	}
	index.set(key, []labels.Selector{selector})
	if anchors := index.anchors(key); len(anchors) != 1 {
		t.Errorf("filed under %d labels", len(anchors))
	}
	if got := index.match("ns", labels.Set{"name": "32999"}); !slices.Equal(got, []types.NamespacedName{key}) {
		t.Errorf("a pod with a value of it finds %v", got)
	}
	if got := index.match("ns", labels.Set{"name": "33000"}); len(got) > 0 {
		t.Errorf("a pod with another value finds %v", got)
	}
}

func BenchmarkPodIndexMatch(b *testing.B) {
	index := newPodIndex()
	for i := range 10000 {
		selector := labels.SelectorFromSet(labels.Set{"a-part-of": "shop", "name": fmt.Sprint(i)})
		index.set(types.NamespacedName{Namespace: "ns", Name: fmt.Sprint(i)}, []labels.Selector{selector})
	}
	set := labels.Set{"a-part-of": "shop", "name": "7", "pod-template-hash": "abc"}
	for b.Loop() {
		index.match("ns", set)
	}
}
