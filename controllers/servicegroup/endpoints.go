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
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// endpointState is what is behind the Service after this reconciliation.
type endpointState struct {
	members []plan.Membership
	slices  []*discoveryv1.EndpointSlice
	// stale says that the cache does not show our own last writes yet; nothing was done.
	stale bool
	// written says that something was changed.
	written bool
}

// sliceTarget is a Service whose EndpointSlices are to be written.
type sliceTarget struct {
	// key is what the Service is known by to memory.
	key     types.NamespacedName
	service *corev1.Service
	// served is what it serves.
	served plan.Served
}

// reconcileEndpoints writes the EndpointSlices of what the Service serves, and of the Services of its
// groups.
func (r *Reconciler) reconcileEndpoints(ctx context.Context, svc *corev1.Service, served plan.Served, exposed ...sliceTarget) (endpointState, error) {
	selectors, err := served.Selectors()
	if err != nil {
		return endpointState{}, err
	}
	key := client.ObjectKeyFromObject(svc)
	r.index.set(key, selectors)
	targets := append([]sliceTarget{{key: key, service: svc, served: served}}, exposed...)
	found := make([][]*discoveryv1.EndpointSlice, len(targets))
	for i, target := range targets {
		var stale bool
		if found[i], stale, err = r.listSlices(ctx, target.key, target.service); err != nil || stale {
			return endpointState{stale: stale}, err
		}
	}
	observed, err := r.observePods(ctx, key, selectors)
	if err != nil {
		return endpointState{}, err
	}
	observed.External = r.observeExternal(key, svc, served, found[0])
	members, err := plan.Members(svc, served, observed)
	if err != nil {
		return endpointState{}, err
	}
	state := endpointState{members: members}
	for i, target := range targets {
		changes, err := r.reconcileSlices(ctx, target, members, found[i], observed.Nodes)
		if err != nil {
			return endpointState{}, err
		}
		state.written = state.written || !changes.Empty()
		if i == 0 {
			state.slices = changes.Final
		}
	}
	return state, nil
}

// reconcileSlices writes the EndpointSlices of one Service and returns what it changed, with them all.
func (r *Reconciler) reconcileSlices(ctx context.Context, target sliceTarget, members []plan.Membership, found []*discoveryv1.EndpointSlice, nodes plan.Nodes) (plan.Slices, error) {
	own := plan.MembersOf(target.served, members)
	changes, err := computeSlices(r.planner, sliceInput{
		service: target.service, served: target.served, members: own, found: found, nodes: nodes,
		trigger: r.triggerTime(target.key, target.service, own, len(found) > 0),
	})
	if err != nil {
		return plan.Slices{}, err
	}
	defer r.memory.writing(target.key)()
	return changes, r.writeSlices(ctx, changes)
}

// listSlices lists the slices of a Service, as copies, and says whether the cache lags behind our
// own writes: planning from such a list would create the same slice twice.
func (r *Reconciler) listSlices(ctx context.Context, key types.NamespacedName, svc *corev1.Service) (found []*discoveryv1.EndpointSlice, stale bool, err error) {
	r.memory.await(key)
	var list discoveryv1.EndpointSliceList
	if err := r.client.List(ctx, &list, client.InNamespace(key.Namespace), client.MatchingFields{fieldService: svc.Name}); err != nil {
		return nil, false, fmt.Errorf("listing EndpointSlices: %w", err)
	}
	for i := range list.Items {
		// The planner compares whole objects, and the API server sends none of its type's name.
		list.Items[i].TypeMeta = metav1.TypeMeta{}
		found = append(found, &list.Items[i])
	}
	if r.tracker.StaleSlices(svc, found) {
		if !r.memory.stale(key) {
			return nil, true, nil
		}
		log.FromContext(ctx).Info("The cache of EndpointSlices never showed our last writes, going on without them")
		r.tracker.DeleteService(svc.Namespace, svc.Name)
	}
	r.memory.caughtUp(key)
	escaped, err := r.listEscaped(ctx, key, svc)
	return append(found, escaped...), false, err
}

// listEscaped asks the API server for slices of the Service that lost the label by which we cache
// them. It does so only after one left the cache without our doing.
func (r *Reconciler) listEscaped(ctx context.Context, key types.NamespacedName, svc *corev1.Service) ([]*discoveryv1.EndpointSlice, error) {
	var look bool
	r.memory.with(key, func(e *entry) { look, e.escaped = e.escaped, false })
	if !look {
		return nil, nil
	}
	var list discoveryv1.EndpointSliceList
	err := r.live.List(ctx, &list, client.InNamespace(key.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: svc.Name})
	if err != nil {
		r.memory.with(key, func(e *entry) { e.escaped = true })
		return nil, fmt.Errorf("listing EndpointSlices that lost our label: %w", err)
	}
	var escaped []*discoveryv1.EndpointSlice
	for i := range list.Items {
		slice := &list.Items[i]
		if metav1.IsControlledBy(slice, svc) && slice.Labels[discoveryv1.LabelManagedBy] != v1alpha1.ManagedBy {
			escaped = append(escaped, slice)
		}
	}
	return escaped, nil
}

// triggerTime is when the change happened that makes the slices change, for measuring how long it
// took to reach the nodes. The first look at slices that exist already, after a restart, cannot
// know: the tracker would answer with the age of the Service.
func (r *Reconciler) triggerTime(key types.NamespacedName, svc *corev1.Service, members []plan.Membership, existed bool) time.Time {
	var pods []*corev1.Pod
	for _, m := range members {
		pods = append(pods, m.Pods...)
	}
	computed := r.trigger.ComputeEndpointLastChangeTriggerTime(key.Namespace, svc, pods)
	var first bool
	r.memory.with(key, func(e *entry) { first, e.triggered = !e.triggered, true })
	if first && existed {
		return time.Time{}
	}
	return computed
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
