package agent

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// metric reads a metric without labels.
func (b *bed) metric(t *testing.T, name string) float64 {
	t.Helper()
	for line := range strings.Lines(b.scrape(t)) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			var n float64
			_, _ = fmt.Sscan(value, &n)
			return n
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// requireOneLine checks how often the agent has logged something.
func requireOneLine(t *testing.T, agent *lab.Process, text string) {
	t.Helper()
	log, err := os.ReadFile(agent.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), text); n != 1 {
		t.Errorf("%q was logged %d times, want once", text, n)
	}
}

func (b *bed) awaitMetric(t *testing.T, name string, want float64) {
	t.Helper()
	eventually(t, name, func() error {
		if got := b.metric(t, name); got != want {
			return fmt.Errorf("it is %v, want %v", got, want)
		}
		return nil
	})
}

// TestAProcessKeepsItsPort: a NodePort on which a process of the node listens is left to it until it ends.
func TestAProcessKeepsItsPort(t *testing.T) {
	b := requireBed(t)
	pods := b.pods(t, "collides", 1)
	const port = 30999
	process, err := b.node.Listen("tcp", net.JoinHostPort(b.node.IPv4.String(), fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	agent := b.startAgent(t)
	service := b.serviceOf(t, "collides", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, port
	}, addresses(pods)...)
	b.awaitEndpoints(t, service.Spec.ClusterIP, addresses(pods))
	b.awaitMetric(t, "servicegroup_agent_nodeport_collisions", 1)
	if got := b.programmed(t, b.node.IPv4.String()); len(got) > 0 {
		t.Errorf("the NodePort of a process leads to %v", got)
	}
	b.setEndpoints(t, "collides") // a change does not log it again
	b.awaitEndpoints(t, service.Spec.ClusterIP, nil)
	b.setEndpoints(t, "collides", addresses(pods)...)
	b.awaitEndpoints(t, service.Spec.ClusterIP, addresses(pods))
	requireOneLine(t, agent, "A process of this node listens on a NodePort")

	if err := process.Close(); err != nil {
		t.Fatal(err)
	}
	b.awaitEndpoints(t, b.node.IPv4.String(), addresses(pods))
	b.awaitMetric(t, "servicegroup_agent_nodeport_collisions", 0)

	// Who listens on a NodePort that is served came second.
	later, err := b.node.Listen("tcp", net.JoinHostPort(b.node.IPv4.String(), fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer later.Close()
	b.setEndpoints(t, "collides")
	b.awaitEndpoints(t, service.Spec.ClusterIP, nil)
	b.setEndpoints(t, "collides", addresses(pods)...)
	b.awaitEndpoints(t, b.node.IPv4.String(), addresses(pods))
}

// TestTwoServicesClaimOneAddress: the one that had it first keeps it, and the other gets it afterwards.
func TestTwoServicesClaimOneAddress(t *testing.T) {
	b := requireBed(t)
	const address = "198.51.100.7"
	agent := b.startAgent(t, "--mode=all")
	claim := func(name string, endpoint netip.Addr) *corev1.Service {
		return b.serviceOf(t, name, func(s *corev1.Service) { s.Spec.ExternalIPs = []string{address} }, endpoint)
	}
	first, second := netip.MustParseAddr("10.244.200.1"), netip.MustParseAddr("10.244.200.2")
	claim("claims-first", first)
	b.awaitEndpoints(t, address, []netip.Addr{first})
	other := claim("claims-second", second)
	b.awaitEndpoints(t, other.Spec.ClusterIP, []netip.Addr{second})
	b.awaitMetric(t, "servicegroup_agent_conflicting_services", 1)
	b.setEndpoints(t, "claims-second") // a change does not log it again
	b.awaitEndpoints(t, other.Spec.ClusterIP, nil)
	b.setEndpoints(t, "claims-second", second)
	b.awaitEndpoints(t, other.Spec.ClusterIP, []netip.Addr{second})
	b.awaitEndpoints(t, address, []netip.Addr{first})
	requireOneLine(t, agent, "A frontend is claimed by two Services")

	if err := b.Kubernetes.CoreV1().Services("default").Delete(t.Context(), "claims-first", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.awaitEndpoints(t, address, []netip.Addr{second})
	b.awaitMetric(t, "servicegroup_agent_conflicting_services", 0)
}
