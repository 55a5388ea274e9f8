package servicegroup

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// podIndex finds the ServiceGroups that select a pod. Each selector is filed under one label that a
// pod must have to match it, so a pod event costs as much as there are selectors filed under the
// pod's own labels, not as there are ServiceGroups.
//
// It holds the selectors that are served. The reconciler sets them before it lists pods: a pod that
// changes afterwards finds them here, and one that changed before is in the list.
type podIndex struct {
	mu         sync.RWMutex
	namespaces map[string]*namespaceIndex
	filed      map[types.NamespacedName][]plan.Anchor
}

type namespaceIndex struct {
	// byAnchor are the selectors that require a label.
	byAnchor map[plan.Anchor]map[types.NamespacedName][]labels.Selector
}

func newPodIndex() *podIndex {
	return &podIndex{namespaces: map[string]*namespaceIndex{}, filed: map[types.NamespacedName][]plan.Anchor{}}
}

// set replaces the selectors of a ServiceGroup; without any that can match it is forgotten.
func (x *podIndex) set(key types.NamespacedName, selectors []labels.Selector) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(key)
	for _, selector := range selectors {
		if _, selectable := selector.Requirements(); !selectable {
			continue // that of an external group
		}
		ns := x.namespaces[key.Namespace]
		if ns == nil {
			ns = &namespaceIndex{byAnchor: map[plan.Anchor]map[types.NamespacedName][]labels.Selector{}}
			x.namespaces[key.Namespace] = ns
		}
		for _, a := range plan.AnchorsOf(selector, func(a plan.Anchor) int { return len(ns.byAnchor[a]) }) {
			if ns.byAnchor[a] == nil {
				ns.byAnchor[a] = map[types.NamespacedName][]labels.Selector{}
			}
			ns.byAnchor[a][key] = append(ns.byAnchor[a][key], selector)
			x.filed[key] = append(x.filed[key], a)
		}
	}
}

// anchors are the labels of which a pod must have one to match a selector of a ServiceGroup.
func (x *podIndex) anchors(key types.NamespacedName) []plan.Anchor {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Clone(x.filed[key])
}

func (x *podIndex) remove(key types.NamespacedName) {
	ns := x.namespaces[key.Namespace]
	for _, a := range x.filed[key] {
		delete(ns.byAnchor[a], key)
		if len(ns.byAnchor[a]) == 0 {
			delete(ns.byAnchor, a)
		}
	}
	delete(x.filed, key)
	if ns != nil && len(ns.byAnchor) == 0 {
		delete(x.namespaces, key.Namespace)
	}
}

// match returns the ServiceGroups with a selector that matches the labels.
func (x *podIndex) match(namespace string, set labels.Set) []types.NamespacedName {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ns := x.namespaces[namespace]
	if ns == nil {
		return nil
	}
	var found []types.NamespacedName
	seen := map[types.NamespacedName]bool{}
	for a := range plan.AnchorsIn(set) {
		for key, selectors := range ns.byAnchor[a] {
			if !seen[key] && anyMatches(selectors, set) {
				seen[key] = true
				found = append(found, key)
			}
		}
	}
	return found
}

func anyMatches(selectors []labels.Selector, set labels.Set) bool {
	for _, s := range selectors {
		if s.Matches(set) {
			return true
		}
	}
	return false
}
