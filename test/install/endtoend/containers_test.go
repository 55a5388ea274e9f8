package endtoend

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/image"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// runImage makes the pods of the installation run the image, with the rights that they ask for. Where no
// image can be built the programs run as they are; in CI that is a failure.
func (i *installation) runImage() {
	i.t.Helper()
	if err := image.Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			i.t.Fatalf("in CI the image must run: %v", err)
		}
		i.t.Logf("NOT FROM THE IMAGE, and with all of root's rights: %v", err)
		return
	}
	pushed, err := theIndex()
	if err != nil {
		i.t.Fatal(err)
	}
	if i.image = pushed.Images["linux/"+runtime.GOARCH]; i.image == nil {
		i.t.Fatal("make image pushed none for this machine")
	}
}

// command runs the container of a pod: from the image, if there is one.
func (i *installation) command(pod corev1.Pod, node *lab.Node) *exec.Cmd {
	i.t.Helper()
	container := pod.Spec.Containers[0]
	env, account := i.withAPIServer(environment(i.t, container, node.Name)), i.serviceAccount(pod)
	if i.image != nil {
		cmd, err := i.image.Command(image.Container{Name: pod.Name, Pod: pod.Spec, Environment: env, ServiceAccount: account})
		if err != nil {
			i.t.Fatal(err)
		}
		return cmd
	}
	binary := i.binary
	if binary == "" {
		var err error
		if binary, err = lab.ProjectBinary(); err != nil {
			i.t.Fatal(err)
		}
	}
	// The service account's folder is where a container has it, for this process alone.
	const mounted = `mkdir -p "$1" && mount --bind "$0" "$1" && shift && exec "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", mounted, account, image.ServiceAccountPath, binary}, container.Args...)...)
	cmd.Env = env
	return cmd
}

// withAPIServer adds where the API server is, unless the pod says so. A kubelet would name the virtual IP
// of the Service kubernetes, which has no endpoint in the lab.
func (i *installation) withAPIServer(env []string) []string {
	if slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "KUBERNETES_SERVICE_HOST=") }) {
		return env
	}
	return append(env, "KUBERNETES_SERVICE_HOST="+i.Network.Fabric.IPv4.String(), "KUBERNETES_SERVICE_PORT=6443")
}

// serviceAccount is the folder that the kubelet would mount, with a token that ends with the pod.
func (i *installation) serviceAccount(pod corev1.Pod) string {
	i.t.Helper()
	account, err := i.Kubernetes.CoreV1().ServiceAccounts(pod.Namespace).Get(i.t.Context(), pod.Spec.ServiceAccountName, metav1.GetOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	// As in Kubernetes: the pod says, else its account, and if neither does it gets one.
	asked := cmp.Or(pod.Spec.AutomountServiceAccountToken, account.AutomountServiceAccountToken)
	if asked != nil && !*asked {
		i.t.Fatalf("%s gets no token: neither it nor its account asks for one", pod.Name)
	}
	dir := filepath.Join(i.ControlPlane.Dir(), "accounts", pod.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		i.t.Fatal(err)
	}
	token := i.token(pod.Spec.ServiceAccountName, &authenticationv1.BoundObjectReference{
		APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID,
	})
	for file, content := range map[string]string{
		"token": token, "ca.crt": string(i.ControlPlane.Config().CAData), "namespace": manifests.Namespace,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			i.t.Fatal(err)
		}
	}
	return dir
}

// environment is what the kubelet would set.
func environment(t *testing.T, container corev1.Container, node string) []string {
	t.Helper()
	var out []string
	for _, variable := range container.Env {
		value := variable.Value
		if from := variable.ValueFrom; from != nil {
			value = valueFrom(t, container, from, node)
		}
		out = append(out, variable.Name+"="+value)
	}
	return out
}

func valueFrom(t *testing.T, container corev1.Container, from *corev1.EnvVarSource, node string) string {
	t.Helper()
	path := ""
	if from.FieldRef != nil {
		path = from.FieldRef.FieldPath
	} else if from.ResourceFieldRef != nil {
		path = from.ResourceFieldRef.Resource
	}
	switch path {
	case "spec.nodeName":
		return node
	case "metadata.namespace":
		return manifests.Namespace
	case "limits.memory":
		return strconv.FormatInt(container.Resources.Limits.Memory().Value(), 10)
	}
	t.Fatalf("%s has the field %q in its environment, which the test does not know", container.Name, path)
	return ""
}
