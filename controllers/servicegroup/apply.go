package servicegroup

import (
	"context"
	"errors"
	"fmt"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// apply writes what is planned, in the order in which traffic depends on it. It returns how long to
// wait before the next look, 0 for an event, and whether another turn is to follow at once.
func (r *Reconciler) apply(ctx context.Context, s *plan.Snapshot, p *plan.Plan) (wait time.Duration, again bool, err error) {
	switch {
	case p.Step != nil:
		return 0, true, r.applyStep(ctx, s, p.Step)
	case p.Wait != "":
		return r.waitFor(s, p.Wait), false, nil
	}
	if again, err := r.applyRevisions(ctx, s, p); again || err != nil {
		return 0, again, err
	}
	fault := r.applyExposed(ctx, s, p) // of one part; it does not keep the others
	for i := range p.Slices {
		if err := r.applySlices(ctx, s, i, p.Slices[i]); err != nil {
			return 0, false, errors.Join(fault, err)
		}
	}
	if fault != nil || len(p.Exposed) > 0 {
		return 0, fault == nil, fault
	}
	if wait, err = r.applyReport(ctx, s, p); err != nil {
		return 0, false, err
	}
	left, err := r.cleanUpAdoption(ctx, s)
	key := client.ObjectKeyFromObject(s.Group)
	return sooner(sooner(wait, left), sooner(r.tries.nextTry(key), r.lookAgain(key))), false, err
}

// waitFor is how long to wait for something that may be no event.
func (r *Reconciler) waitFor(s *plan.Snapshot, wait plan.Wait) time.Duration {
	switch key := client.ObjectKeyFromObject(s.Group); wait {
	case plan.WaitCaches:
		return staleLimit
	case plan.WaitAdoption:
		return r.adoptionLeft(key)
	case plan.WaitRelease:
		r.tries.wait(key, plan.FromNewest, attemptOf(s, plan.FromNewest))
		r.tries.wait(key, plan.FromAccepted, attemptOf(s, plan.FromAccepted))
		return conflictWait
	}
	return 0
}

// applyRevisions records what is served, and forgets refusals of the past. It reports whether the revision
// needs another name, which the Service has to have first.
func (r *Reconciler) applyRevisions(ctx context.Context, s *plan.Snapshot, p *plan.Plan) (again bool, err error) {
	if p.Revision != nil {
		if stored, err := r.storeRevision(ctx, s, *p.Revision); err != nil || !stored {
			return err == nil, err
		}
		if p.Lost != "" {
			r.recordLost(s, p.Lost, p.Revision.Allocated)
		}
	}
	if p.Reallocated != nil {
		if err := r.updateAllocated(ctx, s, *p.Reallocated); err != nil {
			return false, err
		}
		if p.Lost != "" {
			r.recordLost(s, p.Lost, p.Reallocated.Allocated)
		}
	}
	if p.Settled {
		settled := []plan.Source{plan.FromAccepted}
		if s.Accepted.Hash == s.Newest.Hash {
			settled = append(settled, plan.FromNewest, plan.FromAdoption, plan.FromName)
		}
		r.tries.accept(client.ObjectKeyFromObject(s.Group), settled...)
	}
	return false, r.deleteRevisions(ctx, s, p.Outdated)
}

// applySlices writes the changes of the EndpointSlices of a target.
func (r *Reconciler) applySlices(ctx context.Context, s *plan.Snapshot, target int, changes plan.Slices) error {
	if changes.Empty() {
		return nil
	}
	key := client.ObjectKeyFromObject(s.Group)
	defer r.writes.begin(serviceKey(key, s.Targets()[target].Group))()
	return r.writeSlices(ctx, changes)
}

// writeSlices makes the changes: what is new first, so that a pod that moves from one slice to
// another is in both for a moment rather than in none.
func (r *Reconciler) writeSlices(ctx context.Context, changes plan.Slices) error {
	for _, slice := range changes.Create {
		if err := r.client.Create(ctx, slice, client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
			return fmt.Errorf("creating EndpointSlice: %w", err)
		}
		r.tracker.Update(slice)
	}
	for _, slice := range changes.Update {
		if err := r.client.Update(ctx, slice, client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
			return fmt.Errorf("updating EndpointSlice %s: %w", slice.Name, err)
		}
		r.tracker.Update(slice)
	}
	for _, slice := range changes.Delete {
		undo := r.removing(slice)
		err := r.client.Delete(ctx, slice, client.Preconditions{UID: &slice.UID})
		if err != nil {
			undo()
		}
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting EndpointSlice %s: %w", slice.Name, err)
		}
		if err == nil && slice.Labels[discoveryv1.LabelManagedBy] == v1alpha1.ManagedBy {
			r.tracker.ExpectDeletion(slice)
		}
	}
	return nil
}
