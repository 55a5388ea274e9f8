package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
)

// kubelets play scheduler and kubelet for the Pods that somebody else creates, such as
// kube-controller-manager for a Deployment: Pods without a node. Those of [Lab.RunPod] have one.
//
// A Pod runs on the node its node affinity names (the DaemonSet controller's way of choosing it), or
// on the nodes in turn, and serves its containers' ports. When it is deleted it goes the way of a
// real one: its preStop sleep, then its servers drain, then its network goes, and then its object.
type kubelets struct {
	lab  *Lab
	ctx  context.Context // of everything they do
	stop context.CancelFunc

	running  sync.WaitGroup
	mu       sync.Mutex
	pods     map[types.UID]*kubeletPod
	problems []error
}

// kubeletPod is a Pod in the care of kubelets.
type kubeletPod struct {
	deletion sync.Once
	deleted  chan struct{} // closed when the Pod is to end
}

func (p *kubeletPod) end() { p.deletion.Do(func() { close(p.deleted) }) }

func (l *Lab) startKubelets(ctx context.Context) error {
	k := &kubelets{lab: l, pods: map[types.UID]*kubeletPod{}}
	k.ctx, k.stop = context.WithCancel(context.Background())
	l.kubelets = k
	factory := informers.NewSharedInformerFactory(l.Kubernetes, 0)
	informer := factory.Core().V1().Pods().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { k.observe(object.(*corev1.Pod)) },
		UpdateFunc: func(_, object any) { k.observe(object.(*corev1.Pod)) },
		DeleteFunc: func(object any) {
			if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = unknown.Obj
			}
			k.end(object.(*corev1.Pod).UID)
		},
	}); err != nil {
		return fmt.Errorf("watching pods: %w", err)
	}
	factory.Start(k.ctx.Done())
	k.running.Go(func() {
		<-k.ctx.Done()
		factory.Shutdown()
	})
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return fmt.Errorf("watching pods: %w", context.Cause(ctx))
	}
	return nil
}

// close removes their pods and returns what went wrong.
func (k *kubelets) close() error {
	if k == nil {
		return nil
	}
	k.stop()
	k.running.Wait()
	return errors.Join(k.problems...)
}

// observe takes a new Pod into care, and ends one that is to be deleted.
func (k *kubelets) observe(object *corev1.Pod) {
	if object.DeletionTimestamp != nil {
		k.end(object.UID)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pods[object.UID] != nil || object.Spec.NodeName != "" || k.ctx.Err() != nil {
		return
	}
	pod := &kubeletPod{deleted: make(chan struct{})}
	k.pods[object.UID] = pod
	k.running.Go(func() {
		err := k.live(object.DeepCopy(), pod)
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.pods, object.UID)
		if err != nil && k.ctx.Err() == nil {
			k.problems = append(k.problems, fmt.Errorf("running pod %s/%s: %w", object.Namespace, object.Name, err))
		}
	})
}

func (k *kubelets) end(uid types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if pod := k.pods[uid]; pod != nil {
		pod.end()
	}
}

// live is a Pod's life from its binding to its end.
func (k *kubelets) live(object *corev1.Pod, pod *kubeletPod) error {
	workload, err := k.run(object)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		err = nil // deleted before it ran
	}
	if workload == nil || err != nil {
		return errors.Join(err, workload.Remove())
	}
	select {
	case <-pod.deleted:
		k.drain(object, workload)
	case <-k.ctx.Done():
		return workload.Remove()
	}
	err = workload.Remove()
	gone := k.lab.Kubernetes.CoreV1().Pods(object.Namespace).Delete(k.ctx, object.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(object.UID)),
	})
	if apierrors.IsNotFound(gone) || apierrors.IsConflict(gone) {
		gone = nil
	}
	return errors.Join(err, gone)
}

// run binds the Pod to a node, starts its servers and reports it ready.
func (k *kubelets) run(object *corev1.Pod) (*Workload, error) {
	node, err := k.lab.place(affineNode(object))
	if err != nil {
		return nil, err
	}
	pods := k.lab.Kubernetes.CoreV1().Pods(object.Namespace)
	if err := pods.Bind(k.ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: object.Name, UID: object.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node.Name},
	}, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	spec := PodSpec{Namespace: object.Namespace, Name: object.Name}
	for _, container := range object.Spec.Containers {
		for _, port := range container.Ports {
			spec.Ports = append(spec.Ports, Port{Name: port.Name, Number: port.ContainerPort, Protocol: port.Protocol})
		}
	}
	workload, err := node.AddPod(spec.hostName(), spec.Ports...)
	if err != nil {
		return nil, err
	}
	pod := &Pod{Workload: workload, Namespace: spec.Namespace, PodName: spec.Name, lab: k.lab}
	return workload, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		current, err := pods.Get(k.ctx, object.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		current.Status = k.lab.podStatus(pod, spec)
		_, err = pods.UpdateStatus(k.ctx, current, metav1.UpdateOptions{})
		return err
	})
}

// affineNode is the node that the Pod's node affinity names, or "".
func affineNode(object *corev1.Pod) string {
	affinity := object.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == metav1.ObjectNameField && len(field.Values) == 1 {
				return field.Values[0]
			}
		}
	}
	return ""
}

// drain is what happens within the Pod's grace period.
func (k *kubelets) drain(object *corev1.Pod, workload *Workload) {
	grace := 30 * time.Second
	if seconds := object.Spec.TerminationGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(k.ctx, grace)
	defer cancel()
	var pause time.Duration
	for _, container := range object.Spec.Containers {
		if hooks := container.Lifecycle; hooks != nil && hooks.PreStop != nil && hooks.PreStop.Sleep != nil {
			pause = max(pause, time.Duration(hooks.PreStop.Sleep.Seconds)*time.Second)
		}
	}
	preStop := time.NewTimer(pause)
	defer preStop.Stop()
	select {
	case <-preStop.C:
	case <-ctx.Done():
	}
	_ = workload.Drain(ctx) // what has not ended by then is cut off, as by a real kubelet
}
