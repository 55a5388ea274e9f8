package stories

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestS1ClusterIP: three replicas of my-dep behind port 8000, by address and by name. It is told in
// the namespace default because its names are.
func TestS1ClusterIP(t *testing.T) {
	s := newSceneIn(t, "default")
	replicas := s.run("my-dep", 3, map[string]string{"app": "my-dep"})
	visitor := s.visitor()
	s.apply("clusterip.yaml")

	vip := s.service("my-dep").Spec.ClusterIP
	to := inside(visitor, vip, 8000)
	s.awaitAnswers(to, replicas)
	s.evenly(to, replicas)

	for _, name := range []string{"my-dep", "my-dep.default", "my-dep.default.svc.cluster.local"} {
		addresses, err := s.lookup(visitor, name)
		if err != nil || !slices.Equal(addresses, []string{vip}) {
			t.Errorf("%s is %v (%v), want %s", name, addresses, err, vip)
			continue
		}
		answer, err := visitor.Ask(t.Context(), "tcp", inside(visitor, addresses[0], 8000).address)
		if err != nil || !slices.Contains(names(replicas), answer) {
			t.Errorf("%s:8000 is answered by %q (%v)", name, answer, err)
		}
	}
	// Not from outside: type ClusterIP opens nothing on the nodes.
	if port := s.service("my-dep").Spec.Ports[0].NodePort; port != 0 {
		t.Errorf("there is a NodePort, %d", port)
	}
}

// TestS2NodePort: the cluster picks the number; every node answers on it, whether it has a pod or
// not, in both families.
func TestS2NodePort(t *testing.T) {
	s := newScene(t, "s2")
	s.apply("nodeport.yaml")
	var replicas []*lab.Pod
	for _, name := range []string{"my-web-1", "my-web-2"} { // none on node2 and node3
		replicas = append(replicas, s.runOne(lab.PodSpec{Name: name, Labels: map[string]string{"app": "my-web"}, Node: "node1"}))
	}
	nodePort := s.service("my-web").Spec.Ports[0].NodePort
	if nodePort < 30000 || nodePort > 32767 {
		t.Errorf("NodePort %d is not in the range", nodePort)
	}
	for _, to := range s.everyNode(nodePort, corev1.IPv4Protocol, corev1.IPv6Protocol) {
		s.awaitAnswers(to, replicas)
		s.evenly(to, replicas)
	}
	s.awaitCondition("my-web", "Ready", "True", "EndpointsReady")
	if out := s.kubectl("get", "svcg", "my-web"); !strings.Contains(out, fmt.Sprintf("80:%d/TCP", nodePort)) {
		t.Errorf("kubectl get svcg does not show NodePort %d:\n%s", nodePort, out)
	}
}
