package servicegroup

import (
	"context"
	"fmt"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// faultLimit is how long the API server may fail before a condition says so: most faults pass at once.
const faultLimit = 30 * time.Second

// faults knows since when each ServiceGroup cannot be brought in line.
type faults struct {
	clock clock.PassiveClock
	known *perGroup[time.Time]
}

func newFaults(clock clock.PassiveClock) *faults {
	return &faults{clock: clock, known: newPerGroup[time.Time]()}
}

// lasts reports whether there has been a fault for long enough.
func (f *faults) lasts(key types.NamespacedName) (lasts bool) {
	f.known.with(key, func(since *time.Time) {
		now := f.clock.Now()
		if since.IsZero() {
			*since = now
		}
		lasts = now.Sub(*since) >= faultLimit
	})
	return lasts
}

// reportFault says in the condition Stalled what has not passed for a while. The status as a whole is
// what it was: nobody knows better.
func (r *Reconciler) reportFault(ctx context.Context, key types.NamespacedName, fault error) error {
	if !r.faults.lasts(key) {
		return nil
	}
	sg := &v1alpha1.ServiceGroup{}
	if err := r.client.Get(ctx, key, sg); err != nil {
		return client.IgnoreNotFound(err) // then there is nobody to tell
	}
	sg = r.writes.latestGroup(key, sg)
	updated := sg.DeepCopy()
	apimeta.SetStatusCondition(&updated.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonFault, ObservedGeneration: sg.Generation,
		Message: plan.Shorten(fmt.Sprintf("%v; it is tried again, and what was served goes on being served", fault), maxNote),
	})
	report := plan.Report{Status: updated.Status, Coarse: updated.Status}
	r.reports.known.with(key, func(k *knownReport) { k.found = &report })
	if plan.SameStatus(&sg.Status, &updated.Status) {
		return nil
	}
	if err := r.client.Status().Update(ctx, updated); err != nil {
		return fmt.Errorf("updating status: %w", err)
	}
	r.writes.wroteGroup(key, updated)
	return nil
}
