package servicegroup

import (
	"context"
	"fmt"
	"hash/maphash"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// podLister lists the pods of a namespace that have one of the anchors and match. They are shared with the
// cache and not to be changed.
type podLister func(ctx context.Context, namespace string, anchors []plan.Anchor, match func(*corev1.Pod) bool) ([]*corev1.Pod, error)

// newPodLister reads the informer of the cache itself, by an index of its own. A List by the client
// copies every pod, and with 20,000 pods in a namespace that is 20 MB for each event of one of them.
// Only a cache that is restricted to some namespaces has no one informer; then the client has to do.
func newPodLister(ctx context.Context, c cache.Cache) (podLister, error) {
	informer, err := c.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("getting the informer of pods: %w", err)
	}
	indexed, ok := informer.(interface{ GetIndexer() toolscache.Indexer })
	if !ok {
		return func(ctx context.Context, namespace string, _ []plan.Anchor, match func(*corev1.Pod) bool) ([]*corev1.Pod, error) {
			return podsByList(ctx, c, namespace, match)
		}, nil
	}
	buckets := &labelBuckets{seed: maphash.MakeSeed()}
	if err := informer.AddIndexers(toolscache.Indexers{fieldBucket: buckets.index}); err != nil {
		return nil, fmt.Errorf("indexing pods by label: %w", err)
	}
	return func(_ context.Context, namespace string, anchors []plan.Anchor, match func(*corev1.Pod) bool) ([]*corev1.Pod, error) {
		return buckets.pods(indexed.GetIndexer(), namespace, anchors, match)
	}, nil
}

func podsByList(ctx context.Context, reader client.Reader, namespace string, match func(*corev1.Pod) bool) ([]*corev1.Pod, error) {
	var list corev1.PodList
	if err := reader.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	var pods []*corev1.Pod
	for i := range list.Items {
		if match(&list.Items[i]) {
			pods = append(pods, &list.Items[i])
		}
	}
	return pods, nil
}

// observePods lists the pods that can be endpoints of a ServiceGroup, whose selectors the index has, and
// gets the nodes they are on.
func (r *Reconciler) observePods(ctx context.Context, key types.NamespacedName, selectors []labels.Selector) (plan.Observed, error) {
	pods, err := r.pods(ctx, key.Namespace, r.index.anchors(key), func(pod *corev1.Pod) bool {
		return plan.Eligible(pod) && anyMatches(selectors, labels.Set(pod.Labels))
	})
	if err != nil {
		return plan.Observed{}, err
	}
	nodes := plan.Nodes{}
	for _, pod := range pods {
		name := pod.Spec.NodeName
		if _, known := nodes[name]; known || name == "" {
			continue
		}
		node := &corev1.Node{}
		err := r.client.Get(ctx, client.ObjectKey{Name: name}, node, client.UnsafeDisableDeepCopy)
		switch {
		case apierrors.IsNotFound(err):
			nodes[name] = nil
		case err != nil:
			return plan.Observed{}, fmt.Errorf("getting node %s: %w", name, err)
		default:
			nodes[name] = node
		}
	}
	return plan.Observed{Pods: pods, Nodes: nodes}, nil
}
