package servicegroup

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// podLister lists the pods of a namespace, shared with the cache and not to be changed.
type podLister func(ctx context.Context, namespace string) ([]*corev1.Pod, error)

// newPodLister reads the informer of the cache itself. A List by the client copies every pod, and
// with 20,000 pods in a namespace that is 20 MB for each event of one of them. Only a cache that is
// restricted to some namespaces has no one informer; then the client has to do.
func newPodLister(ctx context.Context, c cache.Cache) (podLister, error) {
	informer, err := c.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("getting the informer of pods: %w", err)
	}
	if indexed, ok := informer.(interface{ GetIndexer() toolscache.Indexer }); ok {
		return func(_ context.Context, namespace string) ([]*corev1.Pod, error) {
			return podsByNamespace(indexed.GetIndexer(), namespace)
		}, nil
	}
	return func(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
		return podsByList(ctx, c, namespace)
	}, nil
}

func podsByNamespace(indexer toolscache.Indexer, namespace string) ([]*corev1.Pod, error) {
	found, err := indexer.ByIndex(toolscache.NamespaceIndex, namespace)
	if err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	pods := make([]*corev1.Pod, 0, len(found))
	for _, item := range found {
		if pod, ok := item.(*corev1.Pod); ok {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

func podsByList(ctx context.Context, reader client.Reader, namespace string) ([]*corev1.Pod, error) {
	var list corev1.PodList
	if err := reader.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	pods := make([]*corev1.Pod, 0, len(list.Items))
	for i := range list.Items {
		pods = append(pods, &list.Items[i])
	}
	return pods, nil
}

// observePods lists the pods of a namespace and gets the nodes they are on.
func (r *Reconciler) observePods(ctx context.Context, namespace string) (plan.Observed, error) {
	pods, err := r.pods(ctx, namespace)
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
