package servicegroup

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// exposedGroups are the groups that have, or had, a Service of their own.
type exposedGroups []string

// expose records a group that is to have a Service of its own.
func (r *Reconciler) expose(key types.NamespacedName, group string) {
	r.exposed.with(key, func(groups *exposedGroups) {
		if !slices.Contains(*groups, group) {
			*groups = append(*groups, group)
		}
	})
}

func (r *Reconciler) exposedGroups(key types.NamespacedName) (groups []string) {
	r.exposed.ifKnown(key, func(known *exposedGroups) { groups = slices.Clone(*known) })
	return groups
}

// forgetExposed drops what is known of the Service of a group that is gone.
func (r *Reconciler) forgetExposed(key types.NamespacedName, group string) {
	r.forgetGroup(key, group)
	r.forgetService(serviceKey(key, group), plan.ExposedName(key.Name, group))
}

// forgetGroup drops what is known of a group, whose Service may never have been ours.
func (r *Reconciler) forgetGroup(key types.NamespacedName, group string) {
	r.exposed.ifKnown(key, func(groups *exposedGroups) {
		*groups = slices.DeleteFunc(*groups, func(g string) bool { return g == group })
	})
	r.tries.accept(key, plan.FromGroup(group))
	r.writes.services.forget(serviceKey(key, group))
	r.lag.known.forget(serviceKey(key, group))
}

// forgetUnexposed forgets the groups that are to have no Service and have none, such as those whose names
// were somebody else's.
func (r *Reconciler) forgetUnexposed(s *plan.Snapshot) {
	key := client.ObjectKeyFromObject(s.Group)
	for _, group := range r.exposedGroups(key) {
		if s.Exposed[plan.ExposedName(key.Name, group)] == nil && !s.Accepted.Entry.Exposes(group) {
			r.forgetGroup(key, group)
		}
	}
}
