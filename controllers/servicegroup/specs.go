package servicegroup

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// specs holds the newest and the accepted spec of every ServiceGroup, resolved once.
type specs struct {
	budgets plan.Budgets
	known   *perGroup[knownSpecs]
}

type knownSpecs struct {
	group      types.UID
	generation int64
	newest     plan.Newest
	accepted   *plan.Accepted
}

func newSpecs(budgets plan.Budgets) *specs {
	return &specs{budgets: budgets, known: newPerGroup[knownSpecs]()}
}

// newest is the spec that a ServiceGroup has.
func (s *specs) newest(key types.NamespacedName, sg *v1alpha1.ServiceGroup) (newest plan.Newest) {
	found := false
	s.known.ifKnown(key, func(k *knownSpecs) {
		newest, found = k.newest, k.group == sg.UID && k.generation == sg.Generation
	})
	if found {
		return newest
	}
	newest = plan.NewestOf(&sg.Spec, s.budgets)
	s.known.with(key, func(k *knownSpecs) {
		if k.group != sg.UID {
			k.accepted = nil
		}
		k.group, k.generation, k.newest = sg.UID, sg.Generation, newest
	})
	return newest
}

// accepted is the spec that was accepted last, as far as this manager knows.
func (s *specs) accepted(key types.NamespacedName) (accepted *plan.Accepted) {
	s.known.ifKnown(key, func(k *knownSpecs) {
		if k.accepted != nil {
			copied := *k.accepted
			accepted = &copied
		}
	})
	return accepted
}

// accept records the spec that was accepted.
func (s *specs) accept(key types.NamespacedName, accepted plan.Accepted) {
	s.known.with(key, func(k *knownSpecs) { k.accepted = &accepted })
}

// lost records that a ControllerRevision is gone, and reports whether it is that of the accepted spec.
func (s *specs) lost(key types.NamespacedName, revision string) (lost bool) {
	s.known.ifKnown(key, func(k *knownSpecs) {
		if k.accepted != nil && k.accepted.Name == revision {
			copied := *k.accepted
			copied.Stored, lost = false, true
			k.accepted = &copied
		}
	})
	return lost
}
