package endtoend

import (
	"os"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

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
	i.reportReady(pod.Name, host)
	cmd := i.command(*pod, node)
	var out strings.Builder
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), cmd.Env...), &out, &out
	if err = host.Start(cmd); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		i.t.Fatalf("helm test: %v\n%s", err, out.String())
	}
	i.kubectl("", "-n", manifests.Namespace, "delete", "pod", pod.Name, "--grace-period=0", "--force")
}
