package stories

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestS20TakeOver: a Service that kube-proxy serves becomes a ServiceGroup while clients use it, inside
// and outside, with new connections and old ones. It keeps its identity, and no request fails.
func TestS20TakeOver(t *testing.T) {
	s := newScene(t, "s20")
	s.startKubeProxy(s.Nodes()[0], "iptables")
	s.startKubeProxy(s.Nodes()[1], "nftables")
	pods := s.run("web", 3, map[string]string{"app": "web"})
	s.applyText("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80}]}}")
	before := s.service("web")
	// What connects before kube-proxy is ready leaves connection tracking entries without translation
	// behind, which a later connection from the same port would meet. So others do that.
	for _, to := range s.bothNodes("early", before) {
		s.awaitAnswers(to, pods)
	}
	targets := s.bothNodes("visitor", before)

	stop := s.load(targets)
	s.applyText(s.plugin("convert", "svc/web", "-n", s.namespace))
	s.awaitCondition("web", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonEndpointsReady)
	s.awaitOnlyOurSlices("web") // with them the old proxy has let go, and the rest is cleaned up
	stop()

	after := s.service("web")
	if after.UID != before.UID || after.Spec.ClusterIP != before.Spec.ClusterIP || !slices.Equal(after.Spec.Ports, before.Spec.Ports) {
		t.Errorf("the Service was\n%+v\nand is\n%+v", before, after)
	}
	if len(after.Spec.Selector) > 0 || after.Labels[v1alpha1.LabelServiceProxyName] != v1alpha1.ServiceProxyName {
		t.Errorf("the Service was not taken over: %+v", after)
	}
	for _, to := range targets {
		s.awaitAnswers(to, pods)
		s.evenly(to, pods)
	}
	if out := s.kubectl("get", "endpoints", "web", "--ignore-not-found"); strings.Contains(out, "web") {
		t.Errorf("an Endpoints object was left behind:\n%s", out)
	}
}

// bothNodes are the virtual IP from a new pod on each node with kube-proxy, and the NodePort there from
// a new client outside.
func (s *scene) bothNodes(name string, service *corev1.Service) []target {
	s.t.Helper()
	client, err := s.Client(name + "-" + s.namespace[len(s.namespace)-5:])
	if err != nil {
		s.t.Fatal(err)
	}
	var targets []target
	for _, node := range s.Nodes()[:2] {
		visitor := s.runOne(lab.PodSpec{Name: name + "-" + node.Name, Node: node.Name})
		targets = append(targets, inside(visitor, service.Spec.ClusterIP, 80),
			tcp(client, lab.HostPort(node.IPv4, service.Spec.Ports[0].NodePort)))
	}
	return targets
}

// plugin runs the kubectl plugin, as kubectl does.
func (s *scene) plugin(args ...string) string {
	s.t.Helper()
	root, err := lab.ModuleRoot()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd, err := s.ControlPlane.Kubectl(s.t.Context(), append([]string{"servicegroup"}, args...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "PATH="+filepath.Join(root, "bin")+string(filepath.ListSeparator)+os.Getenv("PATH"))
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("kubectl servicegroup %s: %v\n%s(make build builds the plugin)", strings.Join(args, " "), err, &complaints)
	}
	s.t.Logf("kubectl servicegroup %s warns:\n%s", strings.Join(args, " "), &complaints)
	return string(out)
}

// load sends requests to the targets, on new connections and on one old connection each, until the
// returned function is called, which fails the test if a single one failed.
func (s *scene) load(targets []target) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var wait sync.WaitGroup
	for _, to := range targets {
		wait.Go(func() {
			tally := to.from.TallyUntil(ctx, to.network, to.address)
			s.t.Logf("%s: %d requests on new connections", to, tally.Total())
			if tally.Failed > 0 || tally.Total() == 0 {
				s.t.Errorf("%s: %d of %d requests on new connections failed: %v", to, tally.Failed, tally.Total(), errors.Join(tally.Errors...))
			}
		})
		wait.Go(func() {
			answers, err := askOnOneConnection(ctx, to)
			if err != nil || len(answers) != 1 {
				s.t.Errorf("%s: one connection was answered by %v: %v", to, answers, err)
			}
		})
	}
	return func() {
		cancel()
		wait.Wait()
	}
}

// askOnOneConnection asks until ctx ends and returns who answered. A connection that breaks would show
// as another pod, or as an error.
func askOnOneConnection(ctx context.Context, to target) (map[string]int, error) {
	client := to.from.HTTPClient(true)
	defer client.CloseIdleConnections()
	answers := map[string]int{}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		response, err := client.Get("http://" + to.address + "/")
		if err != nil {
			return answers, err
		}
		body, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			return answers, err
		}
		if response.StatusCode != http.StatusOK {
			return answers, fmt.Errorf("answered %s", response.Status)
		}
		answers[strings.TrimSpace(string(body))]++
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	return answers, nil
}

// awaitOnlyOurSlices waits until the operator has removed what kube-controller-manager left behind,
// which it does half a minute after an adoption.
func (s *scene) awaitOnlyOurSlices(name string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), bound+bound)
	defer cancel()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		managers := map[string]int{}
		list, err := s.Kubernetes.DiscoveryV1().EndpointSlices(s.namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
		if err == nil {
			for i := range list.Items {
				managers[list.Items[i].Labels[discoveryv1.LabelManagedBy]]++
			}
			if len(managers) == 1 && managers[v1alpha1.ManagedBy] > 0 {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			s.t.Fatalf("the EndpointSlices of %s are still those of %v (%v)", name, managers, err)
		}
	}
}
