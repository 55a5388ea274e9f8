package describe

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// Revision is an accepted spec of a ServiceGroup.
type Revision struct {
	plan.Revision
	Stored *appsv1.ControllerRevision
	// Spec is nil if the revision cannot be read, and Unreadable says why.
	Spec       *v1alpha1.ServiceGroupSpec
	Unreadable error
}

// RevisionsOf are the accepted specs of a ServiceGroup, the oldest first. The last one is served.
func RevisionsOf(found []appsv1.ControllerRevision, sg *v1alpha1.ServiceGroup) []Revision {
	var out []Revision
	for i := range found {
		revision, ours := plan.RevisionOf(&found[i], sg)
		if !ours {
			continue
		}
		one := Revision{Revision: revision, Stored: &found[i]}
		one.Spec, one.Unreadable = plan.DecodeSpec(&found[i])
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Revision) int { return cmp.Compare(a.Number, b.Number) })
	return out
}
