package servicegroup

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// reconcileStatus writes the status if what it says changed, and then the events of that change. If
// something else was just written, or only numbers of pods changed, it returns how long to wait.
func (r *Reconciler) reconcileStatus(ctx context.Context, sg *v1alpha1.ServiceGroup, status v1alpha1.ServiceGroupStatus, written bool) (wait time.Duration, err error) {
	key := client.ObjectKeyFromObject(sg)
	r.memory.found(key, &status)
	switch plan.DiffStatus(&sg.Status, &status) {
	case plan.Unchanged:
		r.memory.countsWritten(key)
		return 0, nil
	case plan.CountsChanged:
		if due, wait := r.memory.deferCounts(key); !due {
			return wait, nil
		}
	case plan.Changed:
		if written {
			return statusWait, nil
		}
	}
	updated := sg.DeepCopy()
	updated.Status = status
	updated.Status.Conditions = r.withTimes(sg.Status.Conditions, status.Conditions)
	if err := r.client.Status().Update(ctx, updated, client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
		return 0, fmt.Errorf("updating status: %w", err)
	}
	r.memory.countsWritten(key)
	r.memory.wroteGroup(key, updated)
	r.recordTransitions(sg, updated)
	return 0, nil
}

// statusEdited lets an update of the status pass that is not ours: it says something else than what was found
// last, which is all that we write.
func statusEdited(mem *memory) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.ServiceGroup)
		now, also := e.ObjectNew.(*v1alpha1.ServiceGroup)
		return ok && also && plan.DiffStatus(&before.Status, &now.Status) != plan.Unchanged &&
			!mem.wasFound(client.ObjectKeyFromObject(now), &now.Status)
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

// recordNewAddresses records that a Service could not get back the addresses or numbers where its clients look
// for it.
func (r *Reconciler) recordNewAddresses(sg *v1alpha1.ServiceGroup, svc *corev1.Service) {
	note := fmt.Sprintf("others hold what Service %s had before (%s, ports %s); it has %s, ports %s now", svc.Name,
		strings.Join(plan.RememberedClusterIPs(&sg.Status), ","), plan.PortSummary(plan.RememberedPorts(&sg.Status)),
		strings.Join(svc.Spec.ClusterIPs, ","), plan.PortSummary(plan.PortsOf(svc)))
	r.events.Eventf(sg, nil, corev1.EventTypeWarning, "AddressesChanged", "Restore", "%s", plan.Shorten(note, maxNote))
}
