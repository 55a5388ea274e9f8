package servicegroup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// absentVersion is a resourceVersion that no object can have: etcd's first revision is the empty
// store. A server-side apply that carries it creates an object, and conflicts if there is one: the
// registry compares versions only with an object that exists (registry/generic/registry/store.go).
// Without it, a Service that somebody creates between our look and our apply would be taken over.
const absentVersion = "1"

// maxRewrites is how often a Service is written before somebody is taken to write it back: some repairs take
// two.
const maxRewrites = 3

// applyStep makes the step and records the answer, which the next snapshot shows.
func (r *Reconciler) applyStep(ctx context.Context, s *plan.Snapshot, step *plan.Step) error {
	switch step.Kind {
	case plan.StepWrite:
		return r.applyWrite(ctx, s, &step.Write)
	case plan.StepAccept:
		r.acceptNewest(s)
		return nil
	case plan.StepRefuse:
		source := step.Write.Source
		r.tries.refuse(client.ObjectKeyFromObject(s.Group), source, attemptOf(s, source), step.Refusal)
		return nil
	}
	return r.applyAdoption(ctx, s, step)
}

// applyWrite writes the ServiceGroup's own Service. An accepted spec is stored first if it is not: the write
// removes the annotation from which that of v0.1 was taken over, and nothing else has it.
func (r *Reconciler) applyWrite(ctx context.Context, s *plan.Snapshot, write *plan.ServiceWrite) error {
	if write.Source == plan.FromAccepted && !s.Accepted.Stored {
		_, err := r.storeRevision(ctx, s, *s.Accepted)
		return err // and then another turn
	}
	key := client.ObjectKeyFromObject(s.Group)
	defer r.writes.begin(key)()
	written, err := r.write(ctx, write)
	if err != nil {
		return r.answered(ctx, s, write, err)
	}
	r.writes.wroteService(key, written)
	if write.Source == plan.FromNewest {
		r.acceptNewest(s)
	}
	r.refuseOverruled(s, write.Source, written)
	return nil
}

// refuseOverruled records a write, and a refusal if somebody else is taken to undo each.
func (r *Reconciler) refuseOverruled(s *plan.Snapshot, source plan.Source, written *corev1.Service) {
	key, a := client.ObjectKeyFromObject(s.Group), attemptOf(s, source)
	if r.tries.rewritten(key, source, a) > maxRewrites {
		r.tries.refuse(key, source, a, plan.Overruled(written))
	}
}

// acceptNewest records that the API server took the newest spec.
func (r *Reconciler) acceptNewest(s *plan.Snapshot) {
	r.specs.accept(client.ObjectKeyFromObject(s.Group), s.AcceptNewest())
}

// applyExposed writes the Services of the groups, and deletes those no longer asked for.
func (r *Reconciler) applyExposed(ctx context.Context, s *plan.Snapshot, p *plan.Plan) error {
	key := client.ObjectKeyFromObject(s.Group)
	for _, refused := range p.Refused {
		source := plan.FromGroup(refused.Group)
		r.tries.refuse(key, source, attemptOf(s, source), refused.Refusal)
	}
	r.acceptExposed(s, p)
	var faults []error
	for i := range p.Exposed {
		group, _ := p.Exposed[i].Source.Group()
		if err := r.applyExposedService(ctx, s, &p.Exposed[i], serviceKey(key, group)); err != nil {
			faults = append(faults, fmt.Errorf("exposing group %s: %w", group, err))
		}
	}
	for _, svc := range p.Surplus {
		if err := r.client.Delete(ctx, svc, client.Preconditions{UID: &svc.UID}); client.IgnoreNotFound(err) != nil {
			faults = append(faults, fmt.Errorf("deleting Service %s: %w", svc.Name, err))
		}
		r.forgetExposed(key, svc.Labels[v1alpha1.LabelGroup])
	}
	return errors.Join(faults...)
}

// acceptExposed forgets what was refused of groups whose Services are as they are to be.
func (r *Reconciler) acceptExposed(s *plan.Snapshot, p *plan.Plan) {
	key := client.ObjectKeyFromObject(s.Group)
	for _, group := range r.exposedGroups(key) {
		if source := plan.FromGroup(group); s.Answers[source].Refusal == nil && p.SettlesGroup(group) {
			r.tries.accept(key, source)
		}
	}
}

func (r *Reconciler) applyExposedService(ctx context.Context, s *plan.Snapshot, write *plan.ServiceWrite, known types.NamespacedName) error {
	defer r.writes.begin(known)()
	written, err := r.write(ctx, write)
	if err != nil {
		return r.answered(ctx, s, write, err)
	}
	r.writes.wroteService(known, written)
	r.refuseOverruled(s, write.Source, written)
	return nil
}

// write creates the Service, or changes the one we looked at: if somebody creates or replaces it
// meanwhile, that is a conflict.
func (r *Reconciler) write(ctx context.Context, write *plan.ServiceWrite) (*corev1.Service, error) {
	if write.Live == nil {
		return r.applyService(ctx, write.Want.WithResourceVersion(absentVersion))
	}
	// An apply to a later version than the one we looked at would keep of that what we did not see, and have
	// NodePorts allocated anew if somebody had just made it a ClusterIP.
	seen := write.Live.ResourceVersion
	if write.Repair {
		repaired, err := r.repairService(ctx, write.Live, write.Want)
		if err != nil {
			return nil, err
		}
		seen = repaired.ResourceVersion
	}
	return r.applyService(ctx, write.Want.WithUID(write.Live.UID).WithResourceVersion(seen))
}

// applyService applies the Service. It takes back what others overwrote.
func (r *Reconciler) applyService(ctx context.Context, want *corev1ac.ServiceApplyConfiguration, options ...client.PatchOption) (*corev1.Service, error) {
	body, err := json.Marshal(want)
	if err != nil {
		return nil, fmt.Errorf("encoding Service: %w", err)
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: *want.Name, Namespace: *want.Namespace}}
	options = append(options, client.FieldOwner(v1alpha1.ManagedBy), client.ForceOwnership)
	if err := r.client.Patch(ctx, svc, client.RawPatch(types.ApplyPatchType, body), options...); err != nil {
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
