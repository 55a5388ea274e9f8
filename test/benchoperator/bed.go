package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// bed is a control plane with one node and pods that are objects only.
type bed struct {
	scale
	lab    *lab.Lab
	groups client.Client

	nextAddress netip.Addr
}

const writers = 32

func newBed(ctx context.Context, s scale) (*bed, error) {
	l, err := lab.Start(ctx, lab.Options{
		ControlPlaneOptions: lab.ControlPlaneOptions{AuditLog: true, APIServerArgs: []string{
			"--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000",
		}},
		Nodes: 1,
	})
	if err != nil {
		return nil, err
	}
	config := l.ControlPlane.Config()
	config.QPS = -1 // no limit of the client's own
	b := &bed{scale: s, lab: l, nextAddress: netip.MustParseAddr("10.244.1.1")}
	if l.Kubernetes, err = kubernetes.NewForConfig(config); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if b.groups, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return b, nil
}

// inParallel calls do for 0 to n-1 and returns the errors.
func inParallel(n int, do func(i int) error) error {
	var wait sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wait.Go(func() {
			for i := w; i < n && errs[w] == nil; i += writers {
				errs[w] = do(i)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// runPods creates n ready pods in a namespace; label says what pod i is called by selectors.
func (b *bed) runPods(ctx context.Context, namespace string, n int, label func(i int) string) error {
	fmt.Fprintf(os.Stderr, "creating %d pods ...\n", n)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := b.lab.Kubernetes.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating namespace %s: %w", namespace, err)
	}
	addresses := make([]string, n)
	for i := range addresses {
		addresses[i], b.nextAddress = b.nextAddress.String(), b.nextAddress.Next()
	}
	return inParallel(n, func(i int) error {
		pod, err := b.lab.Kubernetes.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%05d", i), Labels: map[string]string{"app": label(i)}},
			Spec:       corev1.PodSpec{NodeName: "node1", Containers: []corev1.Container{{Name: "main", Image: "none"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("creating a pod: %w", err)
		}
		pod.Status = corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: addresses[i], PodIPs: []corev1.PodIP{{IP: addresses[i]}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		}
		_, err = b.lab.Kubernetes.CoreV1().Pods(namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		return err
	})
}

func (b *bed) newGroup(namespace, name, app string) *v1alpha1.ServiceGroup {
	return &v1alpha1.ServiceGroup{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.ServiceGroupSpec{
			Groups: []v1alpha1.Group{{Name: "web", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}},
			Ports:  []v1alpha1.Port{{Name: "http", Port: 80}},
		},
	}
}
