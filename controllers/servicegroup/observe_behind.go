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

// observeBehind looks at what is behind the Services: their EndpointSlices, and the pods and external
// addresses of what they serve.
func (r *Reconciler) observeBehind(ctx context.Context, s *plan.Snapshot) (*plan.Behind, error) {
	key := client.ObjectKeyFromObject(s.Group)
	b := &plan.Behind{Targets: s.Targets()}
	b.Entry, b.EntryHash = s.ServedEntry()
	selectors := b.Entry.Selectors()
	r.index.set(key, selectors)
	for i := range b.Targets {
		target := &b.Targets[i]
		found, stale, err := r.listSlices(ctx, serviceKey(key, target.Group), target.Service)
		if err != nil || stale {
			b.Lagging = stale
			return b, err
		}
		target.Slices = found
	}
	observed, err := r.observePods(ctx, key, selectors)
	if err != nil {
		return nil, err
	}
	main := &b.Targets[0]
	observed.External = r.observeExternal(key, main.Service, b.Entry, main.Slices)
	b.Members, b.Nodes = plan.Members(main.Service, b.Entry, observed), observed.Nodes
	for i := range b.Targets {
		target := &b.Targets[i]
		target.Trigger = r.triggerTime(key, b, target)
		r.settled.ifKnown(serviceKey(key, target.Group), func(memo *plan.Memo) { target.Settled = *memo })
	}
	return b, nil
}

// listSlices lists the slices of a Service that are not pending deletion, as copies, and reports whether the
// cache lags behind our own writes: planning from such a list would create the same slice twice.
func (r *Reconciler) listSlices(ctx context.Context, key types.NamespacedName, svc *corev1.Service) (found []*discoveryv1.EndpointSlice, stale bool, err error) {
	r.lag.await(key)
	var list discoveryv1.EndpointSliceList
	if err := r.client.List(ctx, &list, client.InNamespace(key.Namespace), client.MatchingFields{fieldService: svc.Name}); err != nil {
		return nil, false, fmt.Errorf("listing EndpointSlices: %w", err)
	}
	for i := range list.Items {
		// The planner compares whole objects, and the API server sends none of its type's name.
		list.Items[i].TypeMeta = metav1.TypeMeta{}
		if list.Items[i].DeletionTimestamp != nil {
			// It is as good as gone, and there may be no event of its end: a finalizer holds it for any time.
			r.tracker.HandleDeletion(&list.Items[i])
			continue
		}
		found = append(found, &list.Items[i])
	}
	if r.tracker.StaleSlices(svc, found) {
		if !r.lag.hopeless(key) {
			return nil, true, nil
		}
		log.FromContext(ctx).Info("The cache of EndpointSlices never showed our last writes, going on without them")
		r.tracker.DeleteService(svc.Namespace, svc.Name)
	}
	r.lag.caughtUp(key)
	escaped, err := r.listEscaped(ctx, key, svc)
	return append(found, escaped...), false, err
}

// listEscaped asks the API server for slices of the Service that lost the label by which we cache
// them. It does so only after one left the cache without our doing.
func (r *Reconciler) listEscaped(ctx context.Context, key types.NamespacedName, svc *corev1.Service) ([]*discoveryv1.EndpointSlice, error) {
	if !r.lag.takeEscaped(key) {
		return nil, nil
	}
	var list discoveryv1.EndpointSliceList
	err := r.live.List(ctx, &list, client.InNamespace(key.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: svc.Name})
	if err != nil {
		r.lag.escaped(key)
		return nil, fmt.Errorf("listing EndpointSlices that lost our label: %w", err)
	}
	var escaped []*discoveryv1.EndpointSlice
	for i := range list.Items {
		slice := &list.Items[i]
		if metav1.IsControlledBy(slice, svc) && slice.DeletionTimestamp == nil && slice.Labels[discoveryv1.LabelManagedBy] != v1alpha1.ManagedBy {
			escaped = append(escaped, slice)
		}
	}
	return escaped, nil
}

// triggerTime is when the change happened that makes the slices change, for measuring how long it
// took to reach the nodes. The first look at slices that exist already, after a restart, cannot
// know: the tracker would answer with the age of the Service.
func (r *Reconciler) triggerTime(key types.NamespacedName, b *plan.Behind, target *plan.Target) string {
	var pods []*corev1.Pod
	for _, m := range b.MembersOf(target) {
		pods = append(pods, m.Pods...)
	}
	computed := r.trigger.ComputeEndpointLastChangeTriggerTime(key.Namespace, target.Service, pods)
	first := r.lag.firstTrigger(serviceKey(key, target.Group))
	if computed.IsZero() || (first && len(target.Slices) > 0) {
		return ""
	}
	return computed.UTC().Format(time.RFC3339Nano)
}
