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

// TestS3FixedNodePortAndClusterIP: both as asked for; who asks for them a second time is told who has
// them, and keeps what it had.
func TestS3FixedNodePortAndClusterIP(t *testing.T) {
	s := newScene(t, "s3")
	replicas := s.run("fixed", 2, map[string]string{"app": "fixed"})
	others := s.run("other", 2, map[string]string{"app": "other"})
	visitor := s.visitor()
	s.apply("nodeport-fixed.yaml")
	asWanted := func() {
		t.Helper()
		for _, to := range append(s.everyNode(30080, corev1.IPv4Protocol), inside(visitor, "10.99.99.99", 80)) {
			s.awaitAnswers(to, replicas)
			s.evenly(to, replicas)
		}
	}
	asWanted()

	// A new ServiceGroup that wants the address is not served at all.
	other := func(name, typeAndAddress, port string) {
		t.Helper()
		s.applyText(fmt.Sprintf("{apiVersion: net.servicegroup.dev/v1alpha1, kind: ServiceGroup, metadata: {name: %s}, spec: {%s, "+
			"groups: [{name: other, selector: {matchLabels: {app: other}}}], ports: [{%s}]}}", name, typeAndAddress, port))
	}
	other("same-address", "clusterIP: 10.99.99.99", "port: 80")
	message := s.awaitCondition("same-address", "Accepted", "False", "ClusterIPUnavailable")
	if holder := s.namespace + "/fixed"; !strings.Contains(message, "10.99.99.99") || !strings.Contains(message, holder) {
		t.Errorf("the condition does not name 10.99.99.99 and its holder %s: %s", holder, message)
	}

	// One that is served and then wants the port goes on being served as before.
	other("same-port", "type: NodePort", "port: 80")
	before := s.service("same-port")
	other("same-port", "type: NodePort", "port: 80, nodePort: 30080")
	message = s.awaitCondition("same-port", "Accepted", "False", "NodePortUnavailable")
	if holder := s.namespace + "/fixed"; !strings.Contains(message, "30080") || !strings.Contains(message, holder) {
		t.Errorf("the condition does not name 30080 and its holder %s: %s", holder, message)
	}
	for _, to := range append(s.everyNode(before.Spec.Ports[0].NodePort, corev1.IPv4Protocol), inside(visitor, before.Spec.ClusterIP, 80)) {
		s.awaitAnswers(to, others)
	}
	asWanted()

	// When the holder goes, the other gets the port.
	s.kubectl("delete", "svcg", "fixed")
	for _, to := range s.everyNode(30080, corev1.IPv4Protocol) {
		s.awaitAnswers(to, others)
	}
}

// TestS4Redis: a fixed virtual IP, found by name, and a selector of two labels.
func TestS4Redis(t *testing.T) {
	s := newScene(t, "s4")
	redis := lab.TCP(6379)
	primary := s.run("primary", 2, map[string]string{"app": "redis", "role": "primary"}, redis)
	s.run("replica", 1, map[string]string{"app": "redis", "role": "replica"}, redis)
	s.run("other", 1, map[string]string{"role": "primary"}, redis)
	visitor := s.visitor()
	s.apply("redis.yaml")

	to := inside(visitor, "10.97.97.97", 6379)
	s.awaitAnswers(to, primary)
	s.evenly(to, primary)
	for _, name := range []string{"redis", "redis." + s.namespace, "redis." + s.namespace + ".svc.cluster.local"} {
		if addresses, err := s.lookup(visitor, name); err != nil || !slices.Equal(addresses, []string{"10.97.97.97"}) {
			t.Errorf("%s is %v (%v)", name, addresses, err)
		}
	}
}

// TestS8TwoPorts: two ports of one group, each on a NodePort of its own.
func TestS8TwoPorts(t *testing.T) {
	s := newScene(t, "s8")
	s.apply("two-ports.yaml")
	tomcat := s.run("tomcat", 2, map[string]string{"app": "tomcat"}, lab.TCP(8080), lab.TCP(8005))
	visitor := s.visitor()
	vip := s.service("tomcat").Spec.ClusterIP
	for port, nodePort := range map[int32]int32{8080: 30001, 8005: 30002} {
		for _, to := range append(s.everyNode(nodePort, corev1.IPv4Protocol), inside(visitor, vip, port)) {
			s.awaitAnswers(to, tomcat)
			s.evenly(to, tomcat)
			reply, err := to.from.AskClient(t.Context(), to.address)
			if err != nil || int32(reply.Server.Port()) != port {
				t.Errorf("%s leads to port %d of the pod (%v), want %d", to, reply.Server.Port(), err, port)
			}
		}
	}
}
