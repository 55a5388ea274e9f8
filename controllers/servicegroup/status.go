package servicegroup

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// maxNote is the size of an event's note that the API server takes.
const maxNote = 1024

// statusWait is how long a status waits that tells of objects just written. They are what traffic
// depends on: when many ServiceGroups change at once, those of all come before the status of any, since
// whatever waits is of low priority.
const statusWait = 100 * time.Millisecond

// reports knows what the status of each ServiceGroup is to say.
type reports struct {
	known *perGroup[knownReport]
}

type knownReport struct {
	// found is what was found last, whether it is written already or not, and written what was written last.
	found, written *plan.Report
	// countsDue is when pod counts have to be written at last.
	countsDue time.Time
}

func newReports() *reports { return &reports{known: newPerGroup[knownReport]()} }

// applyReport writes the status if what it says changed, and then the events of that change. If
// something else was just written, or only numbers of pods changed, it returns how long to wait.
func (r *Reconciler) applyReport(ctx context.Context, s *plan.Snapshot, p *plan.Plan) (wait time.Duration, err error) {
	if p.Report == nil {
		return 0, nil
	}
	key, sg := client.ObjectKeyFromObject(s.Group), s.Group
	switch r.found(key, sg, p.Report) {
	case plan.Unchanged:
		r.reports.known.with(key, func(k *knownReport) { k.countsDue = time.Time{} })
		return 0, nil
	case plan.CountsChanged:
		if wait := r.deferCounts(key); wait > 0 {
			return wait, nil
		}
	case plan.Changed:
		if !p.Empty() {
			return statusWait, nil
		}
	}
	updated := sg.DeepCopy()
	updated.Status = p.Report.Status
	updated.Status.Conditions = r.withTimes(sg.Status.Conditions, p.Report.Status.Conditions)
	if err := r.client.Status().Update(ctx, updated, client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
		return 0, fmt.Errorf("updating status: %w", err)
	}
	r.reports.known.with(key, func(k *knownReport) { k.written, k.countsDue = p.Report, time.Time{} })
	r.writes.wroteGroup(key, updated)
	r.recordTransitions(sg, updated)
	return 0, nil
}

// found records what the status of a ServiceGroup is to say, and returns what that changes. It is called before
// the status is written, so that the event of the write does not come first.
func (r *Reconciler) found(key types.NamespacedName, sg *v1alpha1.ServiceGroup, report *plan.Report) (change plan.StatusChange) {
	r.reports.known.with(key, func(k *knownReport) {
		k.found = report
		change = plan.DiffStatus(&sg.Status, k.written, report)
	})
	return change
}

// deferCounts is how long pod counts are to be held back still.
func (r *Reconciler) deferCounts(key types.NamespacedName) (wait time.Duration) {
	r.reports.known.with(key, func(k *knownReport) {
		now := r.options.Clock.Now()
		if k.countsDue.IsZero() {
			k.countsDue = now.Add(r.options.CountRefresh)
		}
		wait = k.countsDue.Sub(now)
	})
	return max(wait, 0)
}

// statusEdited lets an update of the status pass that is not ours: it says something else than what was found
// last, which is all that we write.
func statusEdited(reports *reports) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.ServiceGroup)
		now, also := e.ObjectNew.(*v1alpha1.ServiceGroup)
		if !ok || !also || plan.SameStatus(&before.Status, &now.Status) {
			return false
		}
		edited := true
		reports.known.ifKnown(client.ObjectKeyFromObject(now), func(k *knownReport) {
			edited = k.found == nil || !plan.SameStatus(&k.found.Status, &now.Status)
		})
		return edited
	}}
}

// withTimes gives every condition the time at which its status last changed.
func (r *Reconciler) withTimes(old, now []metav1.Condition) []metav1.Condition {
	out := make([]metav1.Condition, 0, len(now))
	for _, condition := range now {
		condition.LastTransitionTime = metav1.NewTime(r.options.Clock.Now())
		if before := apimeta.FindStatusCondition(old, condition.Type); before != nil && before.Status == condition.Status {
			condition.LastTransitionTime = before.LastTransitionTime
		}
		out = append(out, condition)
	}
	return out
}

// recordTransitions records an event for every condition whose status or reason changed. What a
// ServiceGroup starts with is no transition, but a user who made a mistake looks for it in the events.
func (r *Reconciler) recordTransitions(before, after *v1alpha1.ServiceGroup) {
	for _, now := range after.Status.Conditions {
		if now.Type == v1alpha1.ConditionStalled || now.Type == v1alpha1.ConditionReconciling {
			continue // they repeat others
		}
		old := apimeta.FindStatusCondition(before.Status.Conditions, now.Type)
		if old == nil && (now.Type != v1alpha1.ConditionAccepted || now.Status == metav1.ConditionTrue) {
			continue
		}
		if old != nil && old.Status == now.Status && old.Reason == now.Reason {
			continue
		}
		kind := corev1.EventTypeNormal
		if now.Status == metav1.ConditionFalse && now.Reason != v1alpha1.ReasonPending {
			kind = corev1.EventTypeWarning
		}
		r.events.Eventf(after, nil, kind, now.Reason, "Reconcile", "%s", plan.Shorten(now.Message, maxNote))
	}
}
