package servicegroup

import (
	"fmt"
	"hash/maphash"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// bucketCount bounds what the index of pods costs: a label with a value of its own on every pod, such
// as a StatefulSet's, would make as many sets of one. With 20,000 pods of five labels it is 5 MB.
const bucketCount = 1 << 12

// bucketNames are the values of the index, made once.
var bucketNames = func() (names [bucketCount]string) {
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return names
}()

// labelBuckets files pods under a hash of each of their labels, so that a reconciliation looks at the
// pods that have a label of its selectors, and a few others, not at all of the namespace.
type labelBuckets struct{ seed maphash.Seed }

func (b *labelBuckets) bucket(namespace, key, value string) string {
	var h maphash.Hash
	h.SetSeed(b.seed)
	for _, part := range []string{namespace, key, value} {
		_, _ = h.WriteString(part) // never fails
		_ = h.WriteByte(0)
	}
	return bucketNames[h.Sum64()%bucketCount]
}

// index are the buckets of a pod that can be an endpoint.
func (b *labelBuckets) index(obj any) ([]string, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || !plan.Eligible(pod) {
		return nil, nil
	}
	buckets := make([]string, 0, len(pod.Labels))
	for key, value := range pod.Labels {
		buckets = append(buckets, b.bucket(pod.Namespace, key, value))
	}
	return buckets, nil
}

// pods lists the pods that have one of the anchors and match, each once.
func (b *labelBuckets) pods(indexer toolscache.Indexer, namespace string, anchors []plan.Anchor, match func(*corev1.Pod) bool) ([]*corev1.Pod, error) {
	index, values := fieldBucket, map[string]bool{}
	for _, a := range anchors {
		if a.Key == "" || a.AnyValue { // in no one bucket
			index, values = toolscache.NamespaceIndex, map[string]bool{namespace: true}
			break
		}
		values[b.bucket(namespace, a.Key, a.Value)] = true
	}
	var pods []*corev1.Pod
	seen := map[string]bool{}
	for value := range values {
		found, err := indexer.ByIndex(index, value)
		if err != nil {
			return nil, fmt.Errorf("listing pods: %w", err)
		}
		for _, item := range found {
			pod, ok := item.(*corev1.Pod)
			if !ok || pod.Namespace != namespace || seen[pod.Name] || !match(pod) {
				continue
			}
			seen[pod.Name] = true
			pods = append(pods, pod)
		}
	}
	return pods, nil
}
