package servicegroup

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// The one right that only adoption needs: what a Service with a selector leaves behind.
//
// +kubebuilder:rbac:groups="",resources=endpoints,verbs=delete

// adoption is how far the adoption of a Service is. It is lost in a restart and begins anew.
type adoption struct {
	// tried identifies what the API server would take.
	tried attempt
	// preparedAt is when its EndpointSlices were written, announcedAt when the agents were told.
	preparedAt, announcedAt time.Time
	// adoptedAt is when it was adopted, or found to be.
	adoptedAt time.Time
	// cleaned reports whether nothing is left behind.
	cleaned bool
}

// adoptionChanged lets the annotation pass that asks for an adoption; it does not change the
// generation.
func adoptionChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetAnnotations()[v1alpha1.AnnotationAdopt] != e.ObjectNew.GetAnnotations()[v1alpha1.AnnotationAdopt]
	}}
}

// observeAdoption is how far the adoption of the snapshot's Service is.
func (r *Reconciler) observeAdoption(s *plan.Snapshot) (out plan.Adoption) {
	r.adoptions.ifKnown(client.ObjectKeyFromObject(s.Group), func(a *adoption) {
		lead := func(since time.Time) bool {
			return !since.IsZero() && r.options.Clock.Since(since) >= r.options.AdoptionLead
		}
		out = plan.Adoption{
			Tried: a.tried == attemptOf(s, plan.FromAdoption),
			Begun: !a.preparedAt.IsZero(), Prepared: lead(a.preparedAt), Announced: lead(a.announcedAt),
		}
	})
	return out
}

// adoptionLeft is how much is left of the time in which a step of an adoption reaches the nodes. The word to
// the agents may be older than this manager.
func (r *Reconciler) adoptionLeft(key types.NamespacedName) (left time.Duration) {
	r.adoptions.with(key, func(a *adoption) {
		now := r.options.Clock.Now()
		since := &a.preparedAt
		if now.Sub(*since) >= r.options.AdoptionLead {
			since = &a.announcedAt
		}
		if since.IsZero() {
			*since = now
		}
		left = r.options.AdoptionLead - now.Sub(*since)
	})
	return max(left, time.Millisecond)
}

// applyAdoption makes a step of an adoption; see plan.Compute.
func (r *Reconciler) applyAdoption(ctx context.Context, s *plan.Snapshot, step *plan.Step) error {
	key, now := client.ObjectKeyFromObject(s.Group), r.options.Clock.Now()
	switch step.Kind {
	case plan.StepTry:
		if _, err := r.applyService(ctx, step.Write.Want.WithUID(step.Write.Live.UID), client.DryRunAll); err != nil {
			return r.answered(ctx, s, &step.Write, err)
		}
		r.adoptions.with(key, func(a *adoption) { a.tried = attemptOf(s, plan.FromAdoption) })
	case plan.StepPrepare:
		if err := r.applySlices(ctx, s, 0, step.Slices); err != nil {
			return err
		}
		r.adoptions.with(key, func(a *adoption) {
			if a.preparedAt.IsZero() {
				a.preparedAt = now
			}
		})
	case plan.StepAnnounce:
		if err := r.announce(ctx, s.Service, true); err != nil {
			return err
		}
		r.adoptions.with(key, func(a *adoption) { a.announcedAt = now })
	case plan.StepTakeOver:
		return r.takeOver(ctx, s, &step.Write)
	case plan.StepAbandon:
		return r.abandonAdoption(ctx, key, s.Service)
	}
	return nil
}

// announce tells the agents to serve a Service that is about to be adopted, or no more.
func (r *Reconciler) announce(ctx context.Context, svc *corev1.Service, serve bool) error {
	target := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: svc.Name, Namespace: svc.Namespace}}
	err := r.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, plan.AnnouncePatch(svc, serve)), client.FieldOwner(v1alpha1.ManagedBy))
	if err != nil {
		return fmt.Errorf("announcing the adoption to the agents: %w", err)
	}
	return nil
}

// takeOver makes the Service ours: a claim, and then one server-side apply that others see. If the API server
// refuses the apply, the Service is ours all the same, and is written as any other.
func (r *Reconciler) takeOver(ctx context.Context, s *plan.Snapshot, write *plan.ServiceWrite) error {
	key := client.ObjectKeyFromObject(s.Group)
	defer r.writes.begin(key)()
	patch, err := plan.ClaimPatch(write.Live, write.Want)
	if err != nil {
		return err
	}
	claimed := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace}}
	if err := r.client.Patch(ctx, claimed, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
		return fmt.Errorf("claiming Service: %w", err)
	}
	write.Live = claimed
	written, err := r.write(ctx, write)
	if err != nil {
		return r.answered(ctx, s, write, err)
	}
	r.writes.wroteService(key, written)
	r.acceptNewest(s)
	r.adoptions.with(key, func(a *adoption) { *a = adoption{adoptedAt: r.options.Clock.Now()} })
	r.events.Eventf(s.Group, written, corev1.EventTypeNormal, "Adopted", "Adopt",
		"Took over Service %s at %s", written.Name, written.Spec.ClusterIP)
	return nil
}

// abandonForeign is abandonAdoption for a ServiceGroup that is gone.
func (r *Reconciler) abandonForeign(ctx context.Context, key types.NamespacedName) error {
	svc := &corev1.Service{}
	if err := r.client.Get(ctx, key, svc); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("getting Service: %w", err)
	}
	return r.abandonAdoption(ctx, key, svc)
}

// abandonAdoption takes back what was done for a Service which is not to be adopted after all: agents
// would serve what nobody maintains. First the agents let go, then the EndpointSlices go.
func (r *Reconciler) abandonAdoption(ctx context.Context, key types.NamespacedName, svc *corev1.Service) error {
	var prepared bool
	r.adoptions.ifKnown(key, func(a *adoption) { prepared = !a.preparedAt.IsZero() })
	announced := plan.Announced(svc) && metav1.GetControllerOf(svc) == nil
	if !prepared && !announced {
		return nil
	}
	if announced {
		if err := r.announce(ctx, svc, false); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	var list discoveryv1.EndpointSliceList
	err := r.live.List(ctx, &list, client.InNamespace(key.Namespace),
		client.MatchingLabels{discoveryv1.LabelServiceName: key.Name, discoveryv1.LabelManagedBy: v1alpha1.ManagedBy})
	if err != nil {
		return fmt.Errorf("listing the EndpointSlices prepared for an adoption: %w", err)
	}
	var changes plan.Slices
	for i := range list.Items {
		changes.Delete = append(changes.Delete, &list.Items[i])
	}
	if err := r.writeSlices(ctx, changes); err != nil {
		return err
	}
	r.adoptions.forget(key)
	return nil
}

// cleanUpAdoption removes what kube-controller-manager left behind when the selector of an adopted
// Service went, and returns when to look again. It waits until every proxy can be expected to have
// let go of the Service: those it still follows would be a Service without endpoints. And it looks
// twice, since a controller that had not seen the change may have written once more.
func (r *Reconciler) cleanUpAdoption(ctx context.Context, s *plan.Snapshot) (time.Duration, error) {
	if s.Service == nil || !plan.Adopted(s.Service, s.Group) || plan.OwnershipOf(s.Service, s.Group) != plan.Ours {
		return 0, nil
	}
	var left time.Duration
	key, cleaned := client.ObjectKeyFromObject(s.Group), false
	r.adoptions.with(key, func(a *adoption) {
		now := r.options.Clock.Now()
		if a.adoptedAt.IsZero() {
			a.adoptedAt = now
		}
		cleaned, left = a.cleaned, r.options.AdoptionGrace-now.Sub(a.adoptedAt)
	})
	if cleaned {
		return 0, nil
	}
	if left > 0 {
		return left, nil
	}
	found, err := r.deleteLeftBehind(ctx, key)
	if err != nil {
		return 0, err
	}
	r.adoptions.with(key, func(a *adoption) { a.cleaned, a.adoptedAt = !found, r.options.Clock.Now() })
	if found {
		return r.options.AdoptionGrace, nil
	}
	return 0, nil
}

// deleteLeftBehind deletes the EndpointSlices that were made from the selector, and the Endpoints
// object, of which kube-controller-manager would make new ones. It reports whether there were any.
func (r *Reconciler) deleteLeftBehind(ctx context.Context, key types.NamespacedName) (bool, error) {
	var list discoveryv1.EndpointSliceList
	if err := r.live.List(ctx, &list, client.InNamespace(key.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: key.Name}); err != nil {
		return false, fmt.Errorf("listing the EndpointSlices of an adopted Service: %w", err)
	}
	left := plan.LeftBehind(list.Items)
	if len(left) == 0 {
		return false, nil
	}
	endpoints := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace}}
	endpoints.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Endpoints"))
	if err := r.client.Delete(ctx, endpoints); client.IgnoreNotFound(err) != nil {
		return true, fmt.Errorf("deleting the Endpoints of an adopted Service: %w", err)
	}
	return true, r.writeSlices(ctx, plan.Slices{Delete: left})
}
