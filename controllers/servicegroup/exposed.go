package servicegroup

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

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
	r.exposed.ifKnown(key, func(groups *exposedGroups) {
		*groups = slices.DeleteFunc(*groups, func(g string) bool { return g == group })
	})
	r.forgetService(serviceKey(key, group), plan.ExposedName(key.Name, group))
}
