package plan

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// maxAnchors bounds under how many values of a key a selector is filed. One with more, of which a spec can
// hold tens of thousands, is filed under the key: an entry for each would cost far more than the selector.
const maxAnchors = 16

// Anchor is a label that a pod must have: a key with a value, a key with any value, or (the zero value)
// nothing at all. Selectors are filed under it, so that a pod finds those that may match it by its own labels.
type Anchor struct {
	Key, Value string
	AnyValue   bool
}

// AnchorsOf chooses where to file a selector: under the requirement with the fewest others, as the load
// tells, since a label such as part-of may be on every pod. A pod that it matches has one of the anchors.
func AnchorsOf(selector labels.Selector, load func(Anchor) int) []Anchor {
	requirements, _ := selector.Requirements()
	var best []Anchor
	bestLoad := 0
	for i := range requirements {
		anchors := requiredLabels(&requirements[i])
		sum := 0
		for _, a := range anchors {
			sum += 1 + load(a)
		}
		if len(anchors) > 0 && (best == nil || sum < bestLoad) {
			best, bestLoad = anchors, sum
		}
	}
	if best == nil {
		return []Anchor{{}}
	}
	return best
}

// AnchorsIn calls a function for each anchor that labels have, until it returns false.
func AnchorsIn(set labels.Set) func(yield func(Anchor) bool) {
	return func(yield func(Anchor) bool) {
		if !yield(Anchor{}) {
			return
		}
		for key, value := range set {
			if !yield(Anchor{Key: key, Value: value}) || !yield(Anchor{Key: key, AnyValue: true}) {
				return
			}
		}
	}
}

// requiredLabels are the labels of which a pod must have one to satisfy a requirement; none if it can be
// satisfied without the key.
func requiredLabels(r *labels.Requirement) []Anchor {
	switch r.Operator() {
	case selection.In, selection.Equals, selection.DoubleEquals:
		values := r.ValuesUnsorted() // a copy
		if len(values) > maxAnchors {
			break
		}
		slices.Sort(values)
		values = slices.Compact(values)
		anchors := make([]Anchor, 0, len(values))
		for _, value := range values {
			anchors = append(anchors, Anchor{Key: r.Key(), Value: value})
		}
		return anchors
	case selection.Exists, selection.GreaterThan, selection.LessThan:
	default: // NotIn and DoesNotExist match pods without the key
		return nil
	}
	return []Anchor{{Key: r.Key(), AnyValue: true}}
}

// byAnchor are the groups of an entry point, by their index, under the anchors of their selectors.
type byAnchor map[Anchor][]int

func groupsByAnchor(groups []Group) byAnchor {
	out := byAnchor{}
	for i := range groups {
		if _, selectable := groups[i].Selects.Requirements(); !selectable {
			continue // that of an external group
		}
		for _, a := range AnchorsOf(groups[i].Selects, func(a Anchor) int { return len(out[a]) }) {
			out[a] = append(out[a], i)
		}
	}
	return out
}
