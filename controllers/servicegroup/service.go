package servicegroup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// absentVersion is a resourceVersion that no object can have: etcd's first revision is the empty
// store. A server-side apply that carries it creates an object, and conflicts if there is one: the
// registry compares versions only with an object that exists (registry/generic/registry/store.go).
// Without it, a Service that somebody creates between our look and our apply would be taken over.
const absentVersion = "1"

// errReleasing says that addresses which status remembers are held, perhaps still by the deleted Service
// that had them: the API server releases them a moment after it is gone.
var errReleasing = errors.New("the addresses of the deleted Service are not released yet")

// serviceState is the generated Service after this reconciliation's try.
type serviceState struct {
	// service is the generated Service as it is; nil when there is none.
	service *corev1.Service
	// written says that it was just changed.
	written bool
	// problems and refusal say why it is not as the spec asks.
	problems []plan.Problem
	refusal  *plan.Refusal
	// retryAfter is when to try again although nothing changed; 0 is never.
	retryAfter time.Duration
	// pending is how long to wait before the Service can be adopted, when everything is ready for it.
	pending time.Duration
}

// reconcileService gets the Service and writes it if it is not as the spec asks.
func (r *Reconciler) reconcileService(ctx context.Context, sg *v1alpha1.ServiceGroup) (serviceState, error) {
	key := client.ObjectKeyFromObject(sg)
	problems := plan.Validate(&sg.Spec)
	// What we are not going to write cannot tell us, by a conflict, that somebody else has the name.
	svc, err := r.getService(ctx, key, key, len(problems) > 0 || plan.AsksToAdopt(sg))
	if err != nil {
		return serviceState{}, err
	}
	if svc != nil && plan.OwnershipOf(svc, sg) != plan.Ours {
		return r.reconcileForeign(ctx, sg, svc)
	}
	state := serviceState{service: svc, problems: problems}
	if len(problems) > 0 {
		return state, nil
	}
	if svc != nil && !svc.DeletionTimestamp.IsZero() {
		return state, nil // its end is an event, and then it comes back
	}
	return r.writeService(ctx, sg, state)
}

// getService gets a Service, known to memory by another key, from the cache. It asks the API server for
// one that is not there if the caller must be sure, or if there was reason to think that the cache
// does not show it: it lags, and does not hold Services without our label. Otherwise a Service that
// exists all the same is a conflict when ours is created, and the next look is at the API server.
func (r *Reconciler) getService(ctx context.Context, key, known types.NamespacedName, sure bool) (*corev1.Service, error) {
	svc := &corev1.Service{}
	err := r.client.Get(ctx, key, svc)
	if apierrors.IsNotFound(err) {
		if !sure && !r.memory.mayBeHidden(known) {
			return nil, nil
		}
		err = r.live.Get(ctx, key, svc)
		r.memory.hidden(known, !apierrors.IsNotFound(err))
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("getting Service: %w", err)
	}
	return r.memory.latestService(known, svc), nil
}

// writeService makes the one change that the Service needs, unless the same was refused a moment
// ago. A refusal leaves the Service as it is.
func (r *Reconciler) writeService(ctx context.Context, sg *v1alpha1.ServiceGroup, state serviceState) (serviceState, error) {
	key, try := client.ObjectKeyFromObject(sg), attempt{group: sg.UID, generation: sg.Generation}
	var diff plan.ServiceDiff
	if state.service != nil {
		if state.refusal = plan.HeadlessChange(state.service, &sg.Spec); state.refusal != nil {
			return state, nil
		}
		try.service = state.service.UID
		sg = plan.KeepSecondFamily(sg, state.service)
		var err error
		if diff, err = plan.DiffService(state.service, r.numbered(sg, state.service)); err != nil {
			return serviceState{}, err
		}
		if diff.Empty() {
			r.memory.accept(key)
			return state, nil
		}
	}
	if refusal, wait := r.memory.recall(key, try); refusal != nil {
		state.refusal, state.retryAfter = refusal, wait
		return state, nil
	}
	defer r.memory.writing(key)()
	written, err := r.writeNumbered(ctx, sg, state.service, diff)
	if err != nil {
		refusal, err := r.refusalOf(ctx, sg, err)
		if err != nil {
			return serviceState{}, err
		}
		state.refusal, state.retryAfter = refusal, r.memory.refuse(key, try, *refusal)
		return state, nil
	}
	if live := state.service; live != nil && written.ResourceVersion == live.ResourceVersion {
		return state, nil // status takes note of the numbers that it keeps, and then they are what it has
	}
	r.memory.accept(key)
	r.memory.wroteService(key, written)
	// Our own echo wakes nobody, and some repairs take two writes: it is looked at once more.
	state.service, state.written, state.retryAfter = written, true, statusWait
	return state, nil
}

// createOrUpdate writes the Service with the addresses that status remembers if it lost them. If those are no
// longer to be had, serving at new ones is better than not serving.
func (r *Reconciler) createOrUpdate(ctx context.Context, sg *v1alpha1.ServiceGroup, live *corev1.Service, diff plan.ServiceDiff) (*corev1.Service, error) {
	if live == nil || diff.Restore {
		want, restored := plan.RestoredService(sg, live)
		// The addresses of a deleted Service are released one after the other. Asked for both between, the API
		// server takes the one, fails with the other, and keeps the first for minutes (allocIPs in
		// registry/core/service/storage/alloc.go).
		if live == nil && restored && len(want.Spec.ClusterIPs) > 1 && !r.memory.waited(client.ObjectKeyFromObject(sg)) {
			return nil, errReleasing
		}
		svc, err := r.write(ctx, live, want, diff.Repair)
		_, _, held := healthCheckRefused(err)
		if !restored || !(held || apierrors.IsInvalid(err)) {
			return svc, err
		}
		if r.memory.releasing(client.ObjectKeyFromObject(sg)) {
			return nil, errReleasing
		}
		log.FromContext(ctx).Info("The remembered addresses are taken, asking for new ones", "cause", err.Error())
		if svc = live; live == nil || diff.Apply {
			svc, err = r.write(ctx, live, plan.Service(sg), diff.Repair)
		} else {
			err = nil // it has other numbers already
		}
		if err == nil {
			r.recordNewAddresses(sg, svc)
		}
		return svc, err
	}
	return r.write(ctx, live, plan.Service(sg), diff.Repair)
}

// write creates the Service, or changes the one we looked at: if somebody creates or replaces it
// meanwhile, that is a conflict.
func (r *Reconciler) write(ctx context.Context, live *corev1.Service, want *corev1ac.ServiceApplyConfiguration, repair bool) (*corev1.Service, error) {
	if live == nil {
		return r.applyService(ctx, want.WithResourceVersion(absentVersion))
	}
	// An apply to a later version than the one we looked at would keep of that what we did not see, and have
	// NodePorts allocated anew if somebody had just made it a ClusterIP.
	seen := live.ResourceVersion
	if repair {
		repaired, err := r.repairService(ctx, live, want)
		if err != nil {
			return nil, err
		}
		seen = repaired.ResourceVersion
	}
	return r.applyService(ctx, want.WithUID(live.UID).WithResourceVersion(seen))
}

// applyService applies the Service. It takes back what others overwrote.
func (r *Reconciler) applyService(ctx context.Context, want *corev1ac.ServiceApplyConfiguration) (*corev1.Service, error) {
	body, err := json.Marshal(want)
	if err != nil {
		return nil, fmt.Errorf("encoding Service: %w", err)
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: *want.Name, Namespace: *want.Namespace}}
	err = r.client.Patch(ctx, svc, client.RawPatch(types.ApplyPatchType, body), client.FieldOwner(v1alpha1.ManagedBy), client.ForceOwnership)
	if err != nil {
		return nil, fmt.Errorf("applying Service: %w", err)
	}
	return svc, nil
}

// repairService undoes by a merge patch what others did to the Service and an apply cannot undo.
func (r *Reconciler) repairService(ctx context.Context, live *corev1.Service, want *corev1ac.ServiceApplyConfiguration) (*corev1.Service, error) {
	patch, err := plan.RepairPatch(live, want)
	if err != nil {
		return nil, err
	}
	target := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: live.Name, Namespace: live.Namespace}}
	err = r.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(v1alpha1.ManagedBy))
	if err != nil {
		return nil, fmt.Errorf("repairing Service: %w", err)
	}
	return target, nil
}
