package servicegroup

import (
	"context"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	endpointsliceutil "k8s.io/endpointslice/util"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// queue is what handlers add to.
type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func enqueue(q queue, keys ...types.NamespacedName) {
	for _, key := range keys {
		q.Add(reconcile.Request{NamespacedName: key})
	}
}

// enqueueLate adds what is not to keep changed objects waiting.
func enqueueLate(q queue, keys ...types.NamespacedName) {
	late, ok := q.(priorityqueue.PriorityQueue[reconcile.Request])
	if !ok {
		enqueue(q, keys...)
		return
	}
	for _, key := range keys {
		late.AddWithOpts(priorityqueue.AddOpts{After: statusWait, Priority: ptr.To(handler.LowPriority)}, reconcile.Request{NamespacedName: key})
	}
}

// serviceHandler wakes the ServiceGroup a Service is labelled with. The echo of our own write wakes
// nobody. One that comes before the answer to the write, as about every other does, cannot be told from a
// write of somebody else, and is looked at late.
func serviceHandler(writes *writes) handler.TypedEventHandler[*corev1.Service, reconcile.Request] {
	wake := func(q queue, svc *corev1.Service, also ...types.NamespacedName) {
		group, known := serviceKeys(svc)
		switch keys := append(also, group); {
		case writes.isWriting(known):
			enqueueLate(q, keys...)
		case !writes.isEcho(known, svc):
			enqueue(q, keys...)
		}
	}
	return handler.TypedFuncs[*corev1.Service, reconcile.Request]{
		CreateFunc: func(_ context.Context, e event.TypedCreateEvent[*corev1.Service], q queue) { wake(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.TypedUpdateEvent[*corev1.Service], q queue) {
			before, _ := serviceKeys(e.ObjectOld)
			wake(q, e.ObjectNew, before)
		},
		DeleteFunc: func(_ context.Context, e event.TypedDeleteEvent[*corev1.Service], q queue) {
			group, _ := serviceKeys(e.Object)
			enqueue(q, group)
		},
	}
}

// serviceKeys are the ServiceGroup a Service belongs to, that of the Service's name in case the label
// was edited, and the key by which the Service is known.
func serviceKeys(svc *corev1.Service) (group, known types.NamespacedName) {
	group = client.ObjectKeyFromObject(svc)
	known = group
	if label := svc.Labels[v1alpha1.LabelServiceGroup]; label != "" && label != svc.Name {
		group.Name = label
		known = serviceKey(group, svc.Labels[v1alpha1.LabelGroup])
	}
	return group, known
}

// sliceHandler wakes the ServiceGroup of a slice, except for the echo of our own writes; see
// serviceHandler.
func sliceHandler(tracker *endpointsliceutil.EndpointSliceTracker, writes *writes, lag *sliceLag) handler.TypedEventHandler[*discoveryv1.EndpointSlice, reconcile.Request] {
	wake := func(q queue, slice *discoveryv1.EndpointSlice, foreignChange bool) {
		for group, known := range sliceKeys(slice) {
			switch {
			case writes.isWriting(known):
				enqueueLate(q, group)
			case foreignChange || lag.isWaiting(known):
				enqueue(q, group)
			}
		}
	}
	return handler.TypedFuncs[*discoveryv1.EndpointSlice, reconcile.Request]{
		CreateFunc: func(_ context.Context, e event.TypedCreateEvent[*discoveryv1.EndpointSlice], q queue) {
			wake(q, e.Object, tracker.ShouldSync(e.Object))
		},
		UpdateFunc: func(_ context.Context, e event.TypedUpdateEvent[*discoveryv1.EndpointSlice], q queue) {
			// The generation of a slice counts changes of its labels and content, not of its owners.
			foreign := tracker.ShouldSync(e.ObjectNew) ||
				!apiequality.Semantic.DeepEqual(e.ObjectOld.OwnerReferences, e.ObjectNew.OwnerReferences)
			wake(q, e.ObjectOld, foreign)
			wake(q, e.ObjectNew, foreign)
		},
		DeleteFunc: func(_ context.Context, e event.TypedDeleteEvent[*discoveryv1.EndpointSlice], q queue) {
			expected := tracker.HandleDeletion(e.Object)
			if !expected {
				for _, known := range sliceKeys(e.Object) {
					lag.escaped(known)
				}
			}
			wake(q, e.Object, !expected)
		},
	}
}

// sliceKeys are the ServiceGroups a slice belongs to, and for each the key by which the
// Service is known: the ServiceGroup's own, or that of one of its groups.
func sliceKeys(slice *discoveryv1.EndpointSlice) iter.Seq2[types.NamespacedName, types.NamespacedName] {
	return func(yield func(group, known types.NamespacedName) bool) {
		for _, name := range sliceServices(slice) {
			group := types.NamespacedName{Namespace: slice.Namespace, Name: name}
			known := group
			if label := slice.Labels[v1alpha1.LabelServiceGroup]; label != "" && label != name {
				group.Name = label
				known = serviceKey(group, slice.Labels[v1alpha1.LabelGroup])
			}
			if !yield(group, known) {
				return
			}
		}
	}
}

// sliceServices are the names of the Services a slice belongs to: by its label, and by its
// controller in case the label was edited.
func sliceServices(slice *discoveryv1.EndpointSlice) []string {
	var names []string
	if name := slice.Labels[discoveryv1.LabelServiceName]; name != "" {
		names = append(names, name)
	}
	if owner := metav1.GetControllerOf(slice); owner != nil && owner.Kind == "Service" && !slices.Contains(names, owner.Name) {
		names = append(names, owner.Name)
	}
	return names
}

// podHandler wakes the ServiceGroups that select a pod before or after a change of something that
// an endpoint is made of, once for all changes of a batch period.
func podHandler(index *podIndex, batch time.Duration) handler.TypedEventHandler[*corev1.Pod, reconcile.Request] {
	wake := func(q queue, pod *corev1.Pod) {
		if !plan.Eligible(pod) {
			return
		}
		for _, key := range index.match(pod.Namespace, labels.Set(pod.Labels)) {
			q.AddAfter(reconcile.Request{NamespacedName: key}, batch)
		}
	}
	return handler.TypedFuncs[*corev1.Pod, reconcile.Request]{
		CreateFunc: func(_ context.Context, e event.TypedCreateEvent[*corev1.Pod], q queue) { wake(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.TypedUpdateEvent[*corev1.Pod], q queue) {
			if endpointChanged(e.ObjectOld, e.ObjectNew) {
				wake(q, e.ObjectOld)
				wake(q, e.ObjectNew)
			}
		},
		DeleteFunc: func(_ context.Context, e event.TypedDeleteEvent[*corev1.Pod], q queue) { wake(q, e.Object) },
	}
}

// endpointChanged compares what endpoints are made of. Pods that are no endpoint before and after
// do not count.
func endpointChanged(before, after *corev1.Pod) bool {
	if !plan.Eligible(before) && !plan.Eligible(after) {
		return false
	}
	return before.UID != after.UID ||
		plan.Eligible(before) != plan.Eligible(after) ||
		plan.ReadyCondition(before) != plan.ReadyCondition(after) ||
		(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
		before.Spec.NodeName != after.Spec.NodeName ||
		before.Spec.Hostname != after.Spec.Hostname ||
		before.Spec.Subdomain != after.Spec.Subdomain ||
		!apiequality.Semantic.DeepEqual(before.Labels, after.Labels) ||
		!apiequality.Semantic.DeepEqual(before.Status.PodIPs, after.Status.PodIPs) ||
		!apiequality.Semantic.DeepEqual(namedPorts(before.Spec.Containers), namedPorts(after.Spec.Containers)) ||
		!apiequality.Semantic.DeepEqual(namedPorts(before.Spec.InitContainers), namedPorts(after.Spec.InitContainers))
}

// nodeHandler wakes the ServiceGroups with a pod on a node that comes, goes or moves to another
// zone: pods on unknown nodes are no endpoints, and endpoints carry the zone.
func nodeHandler(reader client.Reader, index *podIndex) handler.TypedEventHandler[*corev1.Node, reconcile.Request] {
	wake := func(ctx context.Context, q queue, node *corev1.Node) {
		var pods corev1.PodList
		if err := reader.List(ctx, &pods, client.MatchingFields{fieldNode: node.Name}, client.UnsafeDisableDeepCopy); err != nil {
			log.FromContext(ctx).Error(err, "Listing the pods of a node", "node", node.Name)
			return
		}
		for i := range pods.Items {
			enqueue(q, index.match(pods.Items[i].Namespace, labels.Set(pods.Items[i].Labels))...)
		}
	}
	return handler.TypedFuncs[*corev1.Node, reconcile.Request]{
		CreateFunc: func(ctx context.Context, e event.TypedCreateEvent[*corev1.Node], q queue) { wake(ctx, q, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.TypedUpdateEvent[*corev1.Node], q queue) {
			if e.ObjectOld.Labels[corev1.LabelTopologyZone] != e.ObjectNew.Labels[corev1.LabelTopologyZone] {
				wake(ctx, q, e.ObjectNew)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.TypedDeleteEvent[*corev1.Node], q queue) { wake(ctx, q, e.Object) },
	}
}

// revisionHandler wakes the ServiceGroup of a ControllerRevision that somebody else deleted:
// the accepted spec is to be stored again.
func revisionHandler(specs *specs) handler.TypedEventHandler[*metav1.PartialObjectMetadata, reconcile.Request] {
	wake := func(q queue, meta *metav1.PartialObjectMetadata) {
		if group := revisionGroup(meta); group != "" {
			key := types.NamespacedName{Namespace: meta.Namespace, Name: group}
			if specs.lost(key, meta.Name) {
				enqueue(q, key)
			}
		}
	}
	return handler.TypedFuncs[*metav1.PartialObjectMetadata, reconcile.Request]{
		DeleteFunc: func(_ context.Context, e event.TypedDeleteEvent[*metav1.PartialObjectMetadata], q queue) {
			wake(q, e.Object)
		},
	}
}
