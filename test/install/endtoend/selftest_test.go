package endtoend

import (
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// selftest runs the pod of helm test.
func (i *installation) selftest() {
	i.t.Helper()
	ctx := i.t.Context()
	objects, err := manifests.HelmTests(nil)
	if err != nil {
		i.t.Fatal(err)
	}
	for _, object := range objects {
		text, err := yaml.Marshal(object.Object)
		if err != nil {
			i.t.Fatal(err)
		}
		i.kubectl(string(text), "apply", "-f", "-")
	}
	api := i.Kubernetes.CoreV1().Pods(manifests.Namespace)
	pod, err := api.Get(ctx, "servicegroup-selftest", metav1.GetOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	node := i.Nodes()[0]
	host := i.place(*pod, node)
	pod, err = api.Get(ctx, pod.Name, metav1.GetOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: host.IPv4.String(), PodIPs: []corev1.PodIP{{IP: host.IPv4.String()}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	if _, err := api.UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		i.t.Fatal(err)
	}
	root, err := lab.ModuleRoot()
	if err != nil {
		i.t.Fatal(err)
	}
	container := pod.Spec.Containers[0]
	command := slices.Concat(environment(i.t, container, node.Name), []string{filepath.Join(root, "bin", "servicegroup")},
		container.Args, []string{"--kubeconfig=" + i.kubeconfig(*pod)})
	if out, err := host.Output(ctx, "env", command...); err != nil {
		i.t.Fatalf("helm test: %v\n%s", err, out)
	}
	i.kubectl("", "-n", manifests.Namespace, "delete", "pod", pod.Name, "--grace-period=0", "--force")
}
