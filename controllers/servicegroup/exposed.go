package servicegroup

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// exposedState is the Services of the groups after this reconciliation.
type exposedState struct {
	// targets are those that exist, for their EndpointSlices.
	targets  []sliceTarget
	refusals []plan.Refusal
	// retryAfter is when to try again although nothing changed; 0 is never.
	retryAfter time.Duration
}

// exposedKey is the key of a group's Service in memory. No ServiceGroup has such a name, while one may
// have that of the Service.
func exposedKey(group types.NamespacedName, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: group.Namespace, Name: group.Name + "/" + name}
}

// reconcileExposed writes the Services of the groups, and deletes those no longer asked for. One that
// fails does not keep the others.
func (r *Reconciler) reconcileExposed(ctx context.Context, sg *v1alpha1.ServiceGroup, main *corev1.Service, served plan.Served) (exposedState, error) {
	key := client.ObjectKeyFromObject(sg)
	var found corev1.ServiceList
	if err := r.client.List(ctx, &found, client.InNamespace(sg.Namespace), client.MatchingFields{fieldGroup: sg.Name}); err != nil {
		return exposedState{}, fmt.Errorf("listing the Services of groups: %w", err)
	}
	wanted := plan.ExposedServices(sg, main, served)
	var state exposedState
	var faults []error
	for _, exposed := range wanted {
		r.memory.exposed(key, exposed.Group)
		svc, refusal, wait, err := r.reconcileExposedService(ctx, sg, exposed)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("exposing group %s: %w", exposed.Group, err))
		case refusal != nil:
			state.refusals = append(state.refusals, *refusal)
		}
		state.retryAfter = sooner(state.retryAfter, wait)
		if svc != nil {
			state.targets = append(state.targets, sliceTarget{key: exposedKey(key, exposed.Group), service: svc, served: served.Only(exposed.Group)})
		}
	}
	for _, svc := range plan.SurplusExposed(found.Items, sg, wanted) {
		if err := r.client.Delete(ctx, svc, client.Preconditions{UID: &svc.UID}); client.IgnoreNotFound(err) != nil {
			faults = append(faults, fmt.Errorf("deleting Service %s: %w", svc.Name, err))
		}
		r.forgetExposed(key, svc.Labels[v1alpha1.LabelGroup])
	}
	return state, errors.Join(faults...)
}

// reconcileExposedService writes the Service of one group if it is not as wanted, and returns it if
// there is one.
func (r *Reconciler) reconcileExposedService(ctx context.Context, sg *v1alpha1.ServiceGroup, exposed plan.Exposed) (*corev1.Service, *plan.Refusal, time.Duration, error) {
	key := exposedKey(client.ObjectKeyFromObject(sg), exposed.Group)
	live, err := r.getService(ctx, types.NamespacedName{Namespace: sg.Namespace, Name: *exposed.Service.Name}, key, false)
	if err != nil {
		return nil, nil, 0, err
	}
	try := attempt{group: sg.UID, generation: sg.Generation}
	var diff plan.ServiceDiff
	if live != nil {
		try.service = live.UID
		if plan.OwnershipOf(live, sg) != plan.Ours {
			refusal := plan.ExposedTaken(live, sg)
			return nil, &refusal, r.memory.refuse(key, try, refusal), nil
		}
		if diff, err = plan.DiffExposed(live, exposed.Service); err != nil {
			return live, nil, 0, err
		}
		if diff.Empty() || !live.DeletionTimestamp.IsZero() {
			r.memory.accept(key)
			return live, nil, 0, nil
		}
	}
	if refusal, wait := r.memory.recall(key, try); refusal != nil {
		return live, refusal, wait, nil
	}
	defer r.memory.writing(key)()
	written, err := r.write(ctx, live, exposed.Service, diff.Repair)
	if err != nil {
		refusal, err := r.refusalOf(ctx, sg, err)
		if err != nil {
			return live, nil, 0, err
		}
		return live, refusal, r.memory.refuse(key, try, *refusal), nil
	}
	r.memory.accept(key)
	r.memory.wroteService(key, written)
	return written, nil, statusWait, nil // see writeService
}

// forgetExposed drops what is known of the Service of a group that is gone.
func (r *Reconciler) forgetExposed(key types.NamespacedName, group string) {
	r.memory.forget(exposedKey(key, group))
	r.tracker.DeleteService(key.Namespace, plan.ExposedName(key.Name, group))
	r.trigger.DeleteService(key.Namespace, plan.ExposedName(key.Name, group))
}
