package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// bound is how long a measurement may take.
const bound = 10 * time.Minute

func app(i int) string { return fmt.Sprintf("app-%04d", i) }

// untilComplete creates n entry points and waits until every one has slices with podsEach ready endpoints, from
// a watch, and returns when the last one came.
func (b *bed) untilComplete(ctx context.Context, namespace string, n int, create func(ctx context.Context, i int) error) (time.Duration, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(b.lab.Kubernetes, 0, informers.WithNamespace(namespace))
	type count struct {
		service string
		ready   int
	}
	counts := make(chan count, 1<<16)
	informer := factory.Discovery().V1().EndpointSlices().Informer()
	note := func(obj any) {
		slice := obj.(*discoveryv1.EndpointSlice)
		counts <- count{slice.Labels[discoveryv1.LabelServiceName], len(slice.Endpoints)}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: note, UpdateFunc: func(_, obj any) { note(obj) },
	}); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	started := time.Now()
	failed := make(chan error, 1)
	go func() { failed <- inParallel(n, func(i int) error { return create(ctx, i) }) }()
	complete := map[string]bool{}
	for len(complete) < n {
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d are complete: %w", len(complete), n, ctx.Err())
		case err := <-failed:
			if err != nil {
				return 0, err
			}
		case c := <-counts:
			if c.ready == b.podsEach {
				complete[c.service] = true
			}
		}
	}
	return time.Since(started), nil
}

// measureFlip counts in the audit log what the operator writes when one pod becomes unready.
func (b *bed) measureFlip(ctx context.Context) (string, error) {
	if err := b.runPods(ctx, "flip", b.bigGroup, func(int) string { return "big" }); err != nil {
		return "", err
	}
	manager, err := b.lab.StartManager(ctx)
	if err != nil {
		return "", err
	}
	if err := b.groups.Create(ctx, b.newGroup("flip", "big", "big")); err != nil {
		return "", err
	}
	if err := b.untilEndpoints(ctx, "flip", "", b.bigGroup); err != nil {
		return "", err
	}
	before, err := b.quietWrites(ctx)
	if err != nil {
		return "", err
	}
	pod, err := b.lab.Kubernetes.CoreV1().Pods("flip").Get(ctx, "pod-00000", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	pod.Status.Conditions[0].Status = corev1.ConditionFalse
	if _, err := b.lab.Kubernetes.CoreV1().Pods("flip").UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		return "", err
	}
	if err := b.untilEndpoints(ctx, "flip", "not", 1); err != nil {
		return "", err
	}
	after, err := b.quietWrites(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of EndpointSlices, %d of status (late, of the count)", after["endpointslices"]-before["endpointslices"],
		after["servicegroups"]-before["servicegroups"]), manager.Stop()
}

// untilEndpoints waits until so many endpoints of the namespace are ready, or not.
func (b *bed) untilEndpoints(ctx context.Context, namespace, not string, want int) error {
	return wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, bound, true, func(ctx context.Context) (bool, error) {
		list, err := b.lab.Kubernetes.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		n := 0
		for i := range list.Items {
			for _, ep := range list.Items[i].Endpoints {
				if *ep.Conditions.Ready == (not == "") {
					n++
				}
			}
		}
		return n == want, nil
	})
}

// quietWrites returns the operator's writes so far, by resource, once there was none for longer than
// a status may be late.
func (b *bed) quietWrites(ctx context.Context) (map[string]int, error) {
	last, since := map[string]int{}, time.Now()
	err := wait.PollUntilContextTimeout(ctx, time.Second, bound, true, func(context.Context) (bool, error) {
		now, err := b.writes()
		if err != nil {
			return false, err
		}
		if fmt.Sprint(now) != fmt.Sprint(last) {
			last, since = now, time.Now()
		}
		return time.Since(since) > 12*time.Second, nil
	})
	return last, err
}

func (b *bed) writes() (map[string]int, error) {
	requests, err := b.lab.ControlPlane.Requests(time.Time{})
	out := map[string]int{}
	for i := range requests {
		if r := &requests[i]; r.Write() && strings.HasPrefix(r.UserAgent, "servicegroup/") {
			out[r.ObjectRef.Resource]++
		}
	}
	return out, err
}

// measureMemory fills the cluster with pods that nothing selects, keeps one pod per ServiceGroup, and
// starts the manager.
func (b *bed) measureMemory(ctx context.Context) (string, error) {
	for _, namespace := range []string{speedNamespace, "flip"} {
		if err := b.lab.Kubernetes.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, metav1.ListOptions{}); err != nil {
			return "", err
		}
	}
	if err := b.runPods(ctx, "unrelated", b.unrelated, func(int) string { return "unrelated" }); err != nil {
		return "", err
	}
	if err := b.runPods(ctx, "selected", b.scale.groups, func(int) string { return "selected" }); err != nil {
		return "", err
	}
	if err := b.groups.Create(ctx, b.newGroup("selected", "selected", "selected")); err != nil {
		return "", err
	}
	manager, err := b.lab.StartManager(ctx)
	if err != nil {
		return "", err
	}
	if err := b.untilEndpoints(ctx, "selected", "", b.scale.groups); err != nil {
		return "", err
	}
	if _, err := b.quietWrites(ctx); err != nil { // longer than its garbage of the start stays
		return "", err
	}
	used, err := manager.Usage()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d MiB resident", used.Resident>>20), manager.Stop()
}
