package servicegroup

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// lookAgain is when to look again at the agents although none of them wakes a ServiceGroup; 0 is never.
func (r *Reconciler) lookAgain(key types.NamespacedName) time.Duration {
	if r.agents == nil {
		return 0
	}
	return r.agents.lookAgain(key)
}

// leaseHandler takes note of reports and wakes the ServiceGroups that have waited for them.
func (a *agents) leaseHandler() handler.TypedFuncs[*coordinationv1.Lease, reconcile.Request] {
	return handler.TypedFuncs[*coordinationv1.Lease, reconcile.Request]{
		CreateFunc: func(_ context.Context, e event.TypedCreateEvent[*coordinationv1.Lease], q queue) {
			enqueueLate(q, a.set(e.Object)...)
		},
		UpdateFunc: func(_ context.Context, e event.TypedUpdateEvent[*coordinationv1.Lease], q queue) {
			enqueueLate(q, a.set(e.ObjectNew)...)
		},
		DeleteFunc: func(_ context.Context, e event.TypedDeleteEvent[*coordinationv1.Lease], q queue) {
			enqueueLate(q, a.delete(e.Object)...)
		},
	}
}

// expirySource wakes the ServiceGroups that waited for agents which have stopped reporting.
func (a *agents) expirySource() source.Source {
	return source.Func(func(ctx context.Context, q queue) error {
		go func() {
			ticker := time.NewTicker(expiryCheck)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					enqueueLate(q, a.expire()...)
				}
			}
		}()
		return nil
	})
}

// removing takes note that an EndpointSlice is about to be deleted. The answer to that does not say at
// which revision; the event does. What it returns is called if it was not deleted after all.
func (r *Reconciler) removing(slice *discoveryv1.EndpointSlice) (undo func()) {
	if r.agents == nil || slice.Labels[v1alpha1.LabelServiceProxyName] != v1alpha1.ServiceProxyName {
		return func() {} // no agent serves it
	}
	for group := range sliceKeys(slice) {
		return r.agents.removing(group, slice.UID)
	}
	return func() {}
}

func (a *agents) removing(group types.NamespacedName, uid types.UID) (undo func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.removals[group] == nil {
		a.removals[group] = &removals{pending: map[types.UID]bool{}}
	}
	pending := a.removals[group].pending
	pending[uid] = true
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(pending, uid)
	}
}

// removed takes note of the revision at which an EndpointSlice was deleted, and returns the
// ServiceGroup if it has waited for that only.
func (a *agents) removed(group types.NamespacedName, uid types.UID, revision string) []types.NamespacedName {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.removals[group]
	if known == nil || !known.pending[uid] {
		return nil
	}
	delete(known.pending, uid)
	if plan.OlderRevision(known.newest, revision) {
		known.newest = revision
	}
	wait := a.waiting[group]
	if wait == nil || !wait.removing[uid] {
		return nil
	}
	delete(wait.removing, uid)
	// It may stand in the order by what it wants now.
	for _, kind := range a.kinds {
		kind.waits.remove(wait)
	}
	wait.until(revision)
	a.arm(wait)
	if a.waits(wait) {
		return nil
	}
	return []types.NamespacedName{group}
}

// removalHandler learns from the events of deleted EndpointSlices.
func (a *agents) removalHandler() handler.TypedFuncs[*discoveryv1.EndpointSlice, reconcile.Request] {
	return handler.TypedFuncs[*discoveryv1.EndpointSlice, reconcile.Request]{
		DeleteFunc: func(_ context.Context, e event.TypedDeleteEvent[*discoveryv1.EndpointSlice], q queue) {
			for group := range sliceKeys(e.Object) {
				enqueueLate(q, a.removed(group, e.Object.UID, e.Object.ResourceVersion)...)
			}
		},
	}
}
