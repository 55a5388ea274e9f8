package stories

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// scene is where a story takes place: a namespace in the shared cluster.
type scene struct {
	*cluster
	t         *testing.T
	namespace string
	pods      []*lab.Pod
}

// newScene gives the story a namespace of its own, which goes with the test.
func newScene(t *testing.T, story string) *scene {
	t.Helper()
	s := newSceneIn(t, story+"-"+rand.String(5))
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	if _, err := s.Kubernetes.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}

// newSceneIn is for a story told in a namespace that is there already.
func newSceneIn(t *testing.T, namespace string) *scene {
	t.Helper()
	lab.Require(t)
	c, err := theCluster()
	if err != nil {
		t.Fatalf("starting the cluster: %v", err)
	}
	s := &scene{cluster: c, t: t, namespace: namespace}
	t.Cleanup(s.strike)
	return s
}

// strike removes what the story put up and waits until its addresses and ports are free again.
func (s *scene) strike() {
	if s.t.Failed() {
		s.logEnds(s.t)
	}
	// The test's own context has ended by now.
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	s.try(ctx, "delete", "svcg", "--all", "--cascade=foreground")
	if err := s.DeletePods(ctx, s.pods...); err != nil {
		s.t.Error(err)
	}
	if s.namespace == metav1.NamespaceDefault {
		return
	}
	s.try(ctx, "delete", "service,deployment,replicationcontroller,statefulset,daemonset,job", "--all", "--cascade=foreground")
	err := s.Kubernetes.CoreV1().Namespaces().Delete(ctx, s.namespace, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		s.t.Error(err)
	}
}

func (s *scene) try(ctx context.Context, args ...string) {
	if out, err := s.kubectlCommand(ctx, "", args...); err != nil {
		s.t.Errorf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (s *scene) kubectlCommand(ctx context.Context, input string, args ...string) (string, error) {
	var cmd *exec.Cmd
	cmd, err := s.ControlPlane.Kubectl(ctx, append([]string{"--namespace", s.namespace}, args...)...)
	if err != nil {
		return "", err
	}
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// kubectl runs kubectl in the story's namespace and returns what it says.
func (s *scene) kubectl(args ...string) string {
	s.t.Helper()
	out, err := s.kubectlCommand(s.t.Context(), "", args...)
	if err != nil {
		s.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// apply applies a file of config/samples.
func (s *scene) apply(sample string) {
	s.t.Helper()
	root, err := lab.ModuleRoot()
	if err != nil {
		s.t.Fatal(err)
	}
	s.kubectl("apply", "-f", filepath.Join(root, "config", "samples", sample))
}

// applyText applies a manifest of the test's own.
func (s *scene) applyText(manifest string) {
	s.t.Helper()
	if out, err := s.kubectlCommand(s.t.Context(), manifest, "apply", "-f", "-"); err != nil {
		s.t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}

// run runs n pods with these labels; they are named <name>-1 and so on and spread over the nodes.
func (s *scene) run(name string, n int, labels map[string]string, ports ...lab.Port) []*lab.Pod {
	s.t.Helper()
	pods, err := s.RunPods(s.t.Context(), lab.PodSpec{Namespace: s.namespace, Name: name, Labels: labels, Ports: ports}, n)
	for _, pod := range pods {
		if pod != nil {
			s.pods = append(s.pods, pod)
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return pods
}

// runOne runs a single pod.
func (s *scene) runOne(spec lab.PodSpec) *lab.Pod {
	s.t.Helper()
	spec.Namespace = s.namespace
	pod, err := s.RunPod(s.t.Context(), spec)
	if err != nil {
		s.t.Fatal(err)
	}
	s.pods = append(s.pods, pod)
	return pod
}

// visitor is a pod that only asks.
func (s *scene) visitor() *lab.Pod {
	s.t.Helper()
	return s.runOne(lab.PodSpec{Name: "visitor"})
}

// target is somewhere to connect to, and from where.
type target struct {
	from    *lab.Host
	network string
	address string
}

func (t target) String() string { return fmt.Sprintf("%s -> %s/%s", t.from.Name, t.address, t.network) }

// tcp is a TCP target.
func tcp(from *lab.Host, address string) target { return target{from, "tcp", address} }

// inside is the virtual IP as seen from a pod, port after port.
func inside(from *lab.Pod, vip string, port int32) target {
	return tcp(from.Host, lab.HostPort(netip.MustParseAddr(vip), port))
}

// everyNode is the NodePort on every node as seen from outside, once per family.
func (s *scene) everyNode(nodePort int32, families ...corev1.IPFamily) []target {
	var targets []target
	for _, node := range s.Nodes() {
		for _, family := range families {
			address := node.IPv4
			if family == corev1.IPv6Protocol {
				address = node.IPv6
			}
			targets = append(targets, tcp(s.client, lab.HostPort(address, nodePort)))
		}
	}
	return targets
}

// lookup asks CoreDNS for a name in the way of a pod: with the search list that kubelet writes into
// resolv.conf, in its order.
func (s *scene) lookup(from *lab.Pod, name string) ([]string, error) {
	resolver := s.Resolver(from.Host)
	var err error
	for _, suffix := range []string{s.namespace + ".svc.cluster.local.", "svc.cluster.local.", "cluster.local.", ""} {
		ctx, cancel := context.WithTimeout(s.t.Context(), bound)
		var addresses []net.IP
		addresses, err = resolver.LookupIP(ctx, "ip4", strings.TrimSuffix(name, ".")+"."+suffix)
		cancel()
		if err == nil {
			var out []string
			for _, address := range addresses {
				out = append(out, address.String())
			}
			return out, nil
		}
	}
	return nil, err
}
