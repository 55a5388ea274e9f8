package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// PodSpec says which pod to run.
type PodSpec struct {
	// Namespace is created if it is missing; "" means default.
	Namespace string
	// Name of the pod. Its servers answer with it, or with <namespace>.<name> outside the
	// namespace default.
	Name string
	// Labels of the pod.
	Labels map[string]string
	// Annotations of the pod.
	Annotations map[string]string
	// Node is the name of the node; "" means the nodes in turn.
	Node string
	// Ports the pod serves and declares; none means TCP 80.
	Ports []Port
	// NotReady starts the pod unready: it listens, but its readiness says no.
	NotReady bool
	// Hostname and Subdomain are the pod's, as a StatefulSet would set them.
	Hostname, Subdomain string
	// OwnerReferences of the pod.
	OwnerReferences []metav1.OwnerReference
}

// hostName is unique in the lab.
func (s PodSpec) hostName() string {
	if s.Namespace == metav1.NamespaceDefault {
		return s.Name
	}
	return s.Namespace + "." + s.Name
}

// Pod is a running pod: a Pod object and the servers it tells of.
type Pod struct {
	*Workload
	// Namespace and PodName are the Pod object's; Host.Name is what the pod answers with.
	Namespace, PodName string

	lab *Lab
}

// RunPod starts a pod and returns when its servers listen and its Pod object says so.
func (l *Lab) RunPod(ctx context.Context, spec PodSpec) (*Pod, error) {
	if spec.Namespace == "" {
		spec.Namespace = metav1.NamespaceDefault
	}
	if len(spec.Ports) == 0 {
		spec.Ports = []Port{TCP(80)}
	}
	if err := l.ensureNamespace(ctx, spec.Namespace); err != nil {
		return nil, fmt.Errorf("running pod %s: %w", spec.Name, err)
	}
	node, err := l.place(spec.Node)
	if err != nil {
		return nil, fmt.Errorf("running pod %s: %w", spec.Name, err)
	}
	workload, err := node.AddPod(spec.hostName(), spec.Ports...)
	if err != nil {
		return nil, err
	}
	pod := &Pod{Workload: workload, Namespace: spec.Namespace, PodName: spec.Name, lab: l}
	if err := pod.announce(ctx, spec); err != nil {
		return nil, errors.Join(fmt.Errorf("running pod %s: %w", spec.Name, err), workload.Remove())
	}
	return pod, nil
}

// announce creates the Pod object and its status.
func (p *Pod) announce(ctx context.Context, spec PodSpec) error {
	pods := p.lab.Kubernetes.CoreV1().Pods(p.Namespace)
	object, err := pods.Create(ctx, podObject(spec, p.Node.Name), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating the Pod object: %w", err)
	}
	object.Status = p.lab.podStatus(p, spec)
	if _, err := pods.UpdateStatus(ctx, object, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("updating the Pod's status: %w", err)
	}
	return nil
}

// runParallelism is how many pods are started or deleted at a time.
const runParallelism = 8

// RunPods runs n pods like spec, a Deployment's worth: they are named <name>-1 and so on, and
// spread over the nodes in turn. The order of the result is that of the names.
func (l *Lab) RunPods(ctx context.Context, spec PodSpec, n int) ([]*Pod, error) {
	pods := make([]*Pod, n)
	err := inParallel(n, func(i int) (err error) {
		one := spec
		one.Name = fmt.Sprintf("%s-%d", spec.Name, i+1)
		if nodes := l.Nodes(); one.Node == "" {
			one.Node = nodes[i%len(nodes)].Name
		}
		pods[i], err = l.RunPod(ctx, one)
		return err
	})
	return pods, err
}

// DeletePods deletes the pods, as scaling to zero without a grace period does.
func (l *Lab) DeletePods(ctx context.Context, pods ...*Pod) error {
	return inParallel(len(pods), func(i int) error { return l.DeletePod(ctx, pods[i]) })
}

// inParallel calls run(0) to run(n-1), a few at a time, and joins their errors.
func inParallel(n int, run func(i int) error) error {
	var (
		problems = make([]error, n)
		slots    = make(chan struct{}, runParallelism)
		all      sync.WaitGroup
	)
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			problems[i] = run(i)
			<-slots
		})
	}
	all.Wait()
	return errors.Join(problems...)
}

// DeletePod deletes the Pod object at once and then stops the pod, cutting off its connections. For
// a pod that drains, call [Pod.Terminate] first.
func (l *Lab) DeletePod(ctx context.Context, pod *Pod) error {
	err := l.Kubernetes.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.PodName, *metav1.NewDeleteOptions(0))
	if apierrors.IsNotFound(err) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("deleting pod %s: %w", pod.PodName, err)
	}
	return errors.Join(err, pod.Remove())
}

// Terminate asks for the pod's deletion: its object gets a deletionTimestamp, 30 seconds from now.
// The pod keeps serving, ready or not as before, until [Lab.DeletePod].
func (p *Pod) Terminate(ctx context.Context) error {
	err := p.lab.Kubernetes.CoreV1().Pods(p.Namespace).Delete(ctx, p.PodName, metav1.DeleteOptions{})
	if err != nil {
		return fmt.Errorf("terminating pod %s: %w", p.PodName, err)
	}
	return nil
}

// EndPods begins the end of the pods as scaling down does: their objects get a deletionTimestamp and
// turn unready. They go on serving, so that nobody who was sent to them before the cluster has followed
// is lost; once it has, end them with [Lab.DeletePods]. (A pod that is gone while connections are still
// sent to it leaves half-open ones in connection tracking, and for two minutes a client that comes to
// use the same source port again goes the way of the dead.)
func (l *Lab) EndPods(ctx context.Context, pods ...*Pod) error {
	return inParallel(len(pods), func(i int) error {
		if err := pods[i].Terminate(ctx); err != nil {
			return err
		}
		return pods[i].SetReady(ctx, false)
	})
}

// SetReady changes what the pod's readiness says. Its servers go on listening.
func (p *Pod) SetReady(ctx context.Context, ready bool) error {
	pods := p.lab.Kubernetes.CoreV1().Pods(p.Namespace)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		object, err := pods.Get(ctx, p.PodName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		setReady(&object.Status, ready)
		_, err = pods.UpdateStatus(ctx, object, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("setting pod %s ready=%t: %w", p.PodName, ready, err)
	}
	return nil
}

// place chooses the node of a pod.
func (l *Lab) place(name string) (*Node, error) {
	nodes := l.Nodes()
	for _, node := range nodes {
		if node.Name == name {
			return node, nil
		}
	}
	if name != "" {
		return nil, fmt.Errorf("there is no node %q", name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextNode++
	return nodes[(l.nextNode-1)%len(nodes)], nil
}

func (l *Lab) ensureNamespace(ctx context.Context, name string) error {
	if name == metav1.NamespaceDefault {
		return nil
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := l.Kubernetes.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating namespace %s: %w", name, err)
	}
	return nil
}
