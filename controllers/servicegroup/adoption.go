package servicegroup

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
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
	// preparedAt is when its EndpointSlices were written, announcedAt when the agents were told.
	preparedAt, announcedAt time.Time
	// adoptedAt is when it was adopted, or found to be.
	adoptedAt time.Time
	// cleaned says that nothing is left behind.
	cleaned bool
}

// adoptionChanged lets the annotation pass that asks for an adoption; it does not change the
// generation.
func adoptionChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetAnnotations()[v1alpha1.AnnotationAdopt] != e.ObjectNew.GetAnnotations()[v1alpha1.AnnotationAdopt]
	}}
}

// reconcileForeign deals with a Service of the wanted name that is not ours: it stays as it is unless
// the ServiceGroup asks for it. Then, step by step, so that its clients notice nothing
// (docs/adoption.md):
//
//  1. a dry run: what the API server would refuse is refused before anything is touched;
//  2. our EndpointSlices, which nobody follows yet, and a while for them to reach the nodes;
//  3. the word to the agents to serve it too, and a while for them to do so;
//  4. the claim of its fields, which changes nothing that anybody follows;
//  5. one server-side apply: selector out, owner in, and the label by which the old proxy lets go.
func (r *Reconciler) reconcileForeign(ctx context.Context, sg *v1alpha1.ServiceGroup, svc *corev1.Service) (serviceState, error) {
	key, try := client.ObjectKeyFromObject(sg), attempt{sg.UID, sg.Generation, svc.UID}
	refused := func(refusal plan.Refusal) (serviceState, error) {
		wait := r.memory.refuse(key, try, refusal)
		return serviceState{refusal: &refusal, retryAfter: wait}, r.abandonAdoption(ctx, key, svc)
	}
	if plan.OwnershipOf(svc, sg) == plan.Predecessors {
		return refused(predecessors(svc))
	}
	if refusal := plan.AdoptionRefusal(svc, sg); refusal != nil {
		return refused(*refusal)
	}
	if problems := plan.Validate(&sg.Spec); len(problems) > 0 {
		return serviceState{problems: problems}, r.abandonAdoption(ctx, key, svc)
	}
	live := &corev1.Service{} // with all of its managed fields, which the cache has not
	if err := r.live.Get(ctx, key, live); err != nil {
		return serviceState{}, fmt.Errorf("getting the Service to adopt: %w", err)
	}
	kept := plan.KeepSecondFamily(plan.KeepNodePorts(sg, live), live)
	want := plan.Service(r.numbered(kept, live))
	if err := r.tryApply(ctx, live, want); err != nil {
		refusal, err := r.refusalOf(ctx, kept, err)
		if err != nil {
			return serviceState{}, err
		}
		return refused(*refusal)
	}
	if wait, err := r.prepareAdoption(ctx, sg, live, want); err != nil || wait > 0 {
		return serviceState{pending: wait}, err
	}
	if _, agents := want.Labels[v1alpha1.LabelServiceProxyName]; !agents {
		return r.takeOver(ctx, kept, live, want) // it has no virtual IP, or keeps its proxy
	}
	if !plan.Announced(live) {
		return serviceState{pending: r.options.AdoptionLead}, r.announce(ctx, live, true)
	}
	announcedAt := func(e *entry) *time.Time { return &e.adoption.announcedAt }
	if wait := r.leadLeft(key, announcedAt); wait > 0 {
		return serviceState{pending: wait}, nil
	}
	return r.takeOver(ctx, kept, live, want)
}

// tryApply asks the API server whether it would take the Service.
func (r *Reconciler) tryApply(ctx context.Context, live *corev1.Service, want *corev1ac.ServiceApplyConfiguration) error {
	body, err := json.Marshal(want.WithUID(live.UID))
	if err != nil {
		return fmt.Errorf("encoding Service: %w", err)
	}
	target := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: live.Name, Namespace: live.Namespace}}
	err = r.client.Patch(ctx, target, client.RawPatch(types.ApplyPatchType, body), client.FieldOwner(v1alpha1.ManagedBy), client.ForceOwnership, client.DryRunAll)
	if err != nil {
		return fmt.Errorf("trying to apply the Service: %w", err)
	}
	return nil
}

// prepareAdoption writes the EndpointSlices and returns how long to wait still until every node can
// be expected to have them: Services and EndpointSlices reach a node on two ways, and a Service that
// comes first would be one without endpoints.
func (r *Reconciler) prepareAdoption(ctx context.Context, sg *v1alpha1.ServiceGroup, live *corev1.Service, want *corev1ac.ServiceApplyConfiguration) (time.Duration, error) {
	endpoints, err := r.reconcileEndpoints(ctx, plan.PreparedService(live, want), plan.ServedOf(&sg.Spec))
	if err != nil {
		return 0, err
	}
	if endpoints.stale {
		return staleLimit, nil
	}
	return r.leadLeft(client.ObjectKeyFromObject(sg), func(e *entry) *time.Time { return &e.adoption.preparedAt }), nil
}

// leadLeft is how much of the lead is left since a step was taken, or found to have been taken.
func (r *Reconciler) leadLeft(key types.NamespacedName, step func(*entry) *time.Time) (left time.Duration) {
	r.memory.with(key, func(e *entry) {
		now, since := r.options.Clock.Now(), step(e)
		if since.IsZero() {
			*since = now
		}
		left = r.options.AdoptionLead - now.Sub(*since)
	})
	return max(left, 0)
}

// announce tells the agents to serve a Service that is about to be adopted, or no more.
func (r *Reconciler) announce(ctx context.Context, svc *corev1.Service, serve bool) error {
	target := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: svc.Name, Namespace: svc.Namespace}}
	err := r.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, plan.AnnouncePatch(svc, serve)), client.FieldOwner(v1alpha1.ManagedBy))
	if err != nil {
		return fmt.Errorf("telling the agents of an adoption: %w", err)
	}
	return nil
}

// takeOver claims the Service and applies ours.
func (r *Reconciler) takeOver(ctx context.Context, kept *v1alpha1.ServiceGroup, live *corev1.Service, want *corev1ac.ServiceApplyConfiguration) (serviceState, error) {
	patch, err := plan.ClaimPatch(live, want)
	if err != nil {
		return serviceState{}, err
	}
	claimed := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: live.Name, Namespace: live.Namespace}}
	if err := r.client.Patch(ctx, claimed, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(v1alpha1.ManagedBy)); err != nil {
		return serviceState{}, fmt.Errorf("claiming Service: %w", err)
	}
	written, err := r.writeNumbered(ctx, kept, claimed, plan.ServiceDiff{Apply: true})
	if err != nil {
		return serviceState{}, err
	}
	key := client.ObjectKeyFromObject(kept)
	r.memory.accept(key)
	r.memory.wroteService(key, written)
	r.memory.with(key, func(e *entry) { e.adoption = adoption{adoptedAt: r.options.Clock.Now()} })
	r.events.Eventf(kept, written, corev1.EventTypeNormal, "Adopted", "Adopt",
		"Took over Service %s at %s", written.Name, written.Spec.ClusterIP)
	return serviceState{service: written, written: true, retryAfter: statusWait}, nil
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
	r.memory.with(key, func(e *entry) { prepared = !e.adoption.preparedAt.IsZero() })
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
	r.memory.with(key, func(e *entry) { e.adoption = adoption{} })
	return nil
}

// cleanUpAdoption removes what kube-controller-manager left behind when the selector of an adopted
// Service went, and returns when to look again. It waits until every proxy can be expected to have
// let go of the Service: those it still follows would be a Service without endpoints. And it looks
// twice, since a controller that had not seen the change may have written once more.
func (r *Reconciler) cleanUpAdoption(ctx context.Context, sg *v1alpha1.ServiceGroup, svc *corev1.Service) (time.Duration, error) {
	if svc == nil || !plan.Adopted(svc, sg) {
		return 0, nil
	}
	var left time.Duration
	key, cleaned := client.ObjectKeyFromObject(sg), false
	r.memory.with(key, func(e *entry) {
		now := r.options.Clock.Now()
		if e.adoption.adoptedAt.IsZero() {
			e.adoption.adoptedAt = now
		}
		cleaned, left = e.adoption.cleaned, r.options.AdoptionGrace-now.Sub(e.adoption.adoptedAt)
	})
	if cleaned || left > 0 {
		return max(left, 0), nil
	}
	found, err := r.deleteLeftBehind(ctx, key)
	if err != nil {
		return 0, err
	}
	r.memory.with(key, func(e *entry) {
		e.adoption.cleaned = !found
		e.adoption.adoptedAt = r.options.Clock.Now()
	})
	if found {
		return r.options.AdoptionGrace, nil
	}
	return 0, nil
}

// deleteLeftBehind deletes the EndpointSlices that were made from the selector, and the Endpoints
// object, of which kube-controller-manager would make new ones. It says whether there were any.
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
