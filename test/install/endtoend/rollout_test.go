package endtoend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// rollout plays scheduler and kubelets for the pods of the installation while kube-controller-manager
// replaces them.
type rollout struct {
	*installation
	// binaries are the programs of the releases, by the tag of their image.
	binaries map[string]string
	running  map[types.UID]program
	placed   int // managers, which go to the nodes in turn
}

// tag is the release that a pod is of.
func tag(pod corev1.PodTemplateSpec) string {
	image := pod.Spec.Containers[0].Image
	return image[strings.LastIndex(image, ":")+1:]
}

// await runs new pods and ends old ones until every pod is of one release and ready.
func (r *rollout) await(t *testing.T, release string) {
	t.Helper()
	await(t, "every pod is of "+release, func(ctx context.Context) error {
		pods, err := r.Kubernetes.CoreV1().Pods(manifests.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			_, runs := r.running[pod.UID]
			switch {
			case pod.DeletionTimestamp != nil:
				r.end(t, pod)
			case !runs:
				r.run(t, pod)
			}
		}
		return r.complete(ctx, release)
	})
}

// run starts a pod, and says that it is ready when it is.
func (r *rollout) run(t *testing.T, pod corev1.Pod) {
	t.Helper()
	nodes := r.Nodes()
	at := slices.IndexFunc(nodes, func(n *lab.Node) bool { return n.Name == nodeOf(pod) })
	if at < 0 {
		at = r.placed % len(nodes)
		r.placed++
	}
	r.binary = r.binaries[tag(corev1.PodTemplateSpec{Spec: pod.Spec})]
	started := r.start(pod, nodes[at])
	r.running[pod.UID] = started
	r.reportReady(pod.Name, started.host)
}

// end ends a pod as a kubelet does: SIGTERM, and the object goes when the program has.
func (r *rollout) end(t *testing.T, pod corev1.Pod) {
	t.Helper()
	if err := r.running[pod.UID].Stop(); err != nil {
		t.Fatal(err)
	}
	delete(r.running, pod.UID)
	if err := r.Kubernetes.CoreV1().Pods(pod.Namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
	}); err != nil {
		t.Fatal(err)
	}
}

// complete says what is missing until Deployment and DaemonSet are of the release and have replaced their pods.
func (r *rollout) complete(ctx context.Context, release string) error {
	deployment, err := r.Kubernetes.AppsV1().Deployments(manifests.Namespace).Get(ctx, "servicegroup-manager", metav1.GetOptions{})
	if err != nil {
		return err
	}
	daemons, err := r.Kubernetes.AppsV1().DaemonSets(manifests.Namespace).Get(ctx, "servicegroup-agent", metav1.GetOptions{})
	if err != nil {
		return err
	}
	managers, agents := deployment.Status, daemons.Status
	switch {
	case tag(deployment.Spec.Template) != release || tag(daemons.Spec.Template) != release:
		return fmt.Errorf("the images are %s and %s", tag(deployment.Spec.Template), tag(daemons.Spec.Template))
	case managers.ObservedGeneration != deployment.Generation || agents.ObservedGeneration != daemons.Generation:
		return fmt.Errorf("kube-controller-manager is behind")
	case managers.UpdatedReplicas != 2 || managers.AvailableReplicas != 2 || managers.Replicas != 2:
		return fmt.Errorf("the managers: %+v", managers)
	case !everywhere(agents, len(r.Nodes())):
		return fmt.Errorf("the agents: %+v", agents)
	}
	return nil
}

func everywhere(agents appsv1.DaemonSetStatus, nodes int) bool {
	n := int32(nodes)
	return agents.DesiredNumberScheduled == n && agents.UpdatedNumberScheduled == n && agents.NumberAvailable == n
}
