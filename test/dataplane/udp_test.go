package dataplane

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// TestUDPFlowsLeaveAPodThatLeft keeps one socket, and so one flow, through every change: without
// help the kernel would send its packets to the first pod for as long as the client goes on asking.
func TestUDPFlowsLeaveAPodThatLeft(t *testing.T) {
	b := requireBed(t)
	withoutNodePorts := func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeClusterIP
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = 0
		}
	}
	for _, way := range []path{
		{from: "client", to: "vip:53/udp"}, {from: "client", to: "node1:30053/udp"},
		{from: "asker1", to: "vip:53/udp"}, {from: "asker2", to: "node1:30053/udp"}, {from: "node2", to: "node1:30053/udp"},
	} {
		for _, ipv4 := range []bool{true, false} {
			b.serve(t, newService("web1"))
			network, address := b.target(way.to, ipv4)
			conn, err := b.hosts[way.from].Dial(context.Background(), network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			expect := func(what, want string) {
				t.Helper()
				if got := askAgain(t, conn); got != want {
					t.Errorf("%s to %s, %s: %s answers, want %q", way.from, way.to, what, got, want)
				}
			}
			expect("at first", "web1")
			b.change(t, newService("web3"))
			expect("after web1 was replaced", "web3")
			b.change(t, newService())
			expect("after the last pod left", refused)
			b.change(t, newService("web2"))
			expect("after a pod came", "web2")
			if strings.HasPrefix(way.to, "node1") {
				b.change(t, newService("web2").with(withoutNodePorts))
				expect("after the NodePort was given up", refused)
				b.change(t, newService("web3"))
				expect("after the NodePort came back", "web3")
			}
		}
	}
}

// TestUDPFlowsStayWithAPodThatServes keeps one socket through everything that sends new flows elsewhere.
func TestUDPFlowsStayWithAPodThatServes(t *testing.T) {
	b := requireBed(t)
	draining := newService("web3")
	draining.terminating = []string{"web1"}
	local := corev1.ServiceInternalTrafficPolicyLocal
	onNode := func(s *corev1.Service) {
		s.Spec.InternalTrafficPolicy = &local
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	for _, way := range []path{
		{from: "asker2", to: "vip:53/udp"}, {from: "client", to: "node2:30053/udp"}, {from: "node2", to: "vip:53/udp"},
	} {
		for _, ipv4 := range []bool{true, false} {
			b.serve(t, newService("web1"))
			network, address := b.target(way.to, ipv4)
			conn := b.dial(t, way.from, network, address)
			expect := func(what string, conn net.Conn, want string) {
				t.Helper()
				if got := askAgain(t, conn); got != want {
					t.Errorf("%s to %s, %s: %s answers, want %q", way.from, way.to, what, got, want)
				}
			}
			expect("at first", conn, "web1")
			b.change(t, draining)
			expect("while web1 is draining", conn, "web1")
			expect("a new flow meanwhile", b.dial(t, way.from, network, address), "web3")
			b.restart(t, draining)
			expect("after a restart of the agent", conn, "web1")
			b.change(t, draining.with(onNode))
			expect("after the policies were made Local", conn, "web1")
			b.change(t, newService("web3"))
			expect("after web1 has gone", conn, "web3")
		}
	}
}

func (b *bed) dial(t *testing.T, from, network, address string) net.Conn {
	t.Helper()
	conn, err := b.hosts[from].Dial(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// restart reads the tables back and commits the difference, as an agent does that was started anew.
func (b *bed) restart(t *testing.T, services ...service) {
	t.Helper()
	for _, node := range b.nodes {
		found, ok, err := node.tables.Read()
		if err != nil || !ok {
			t.Fatalf("reading the tables of %s: %v, and they are ours: %v", node.Name, err, ok)
		}
		state, result := ruleset.Adopt(found, ruleset.Update{
			Services: b.build(node, services), Ranges: &ruleset.Ranges{Pods: clusterCIDRs(), Inside: clusterCIDRs()},
		}, nil)
		node.state = state
		if err := node.tables.Commit(&result.Change); err != nil {
			t.Fatalf("changing %s: %v", node.Name, err)
		}
		if _, err := node.flows.DeleteStale(result.Change.UDP, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUDPFlowsOfOthersGoOn changes one Service and watches the flow of another.
func TestUDPFlowsOfOthersGoOn(t *testing.T) {
	b := requireBed(t)
	other := newService("web1", "web2", "web3").with(func(s *corev1.Service) {
		s.Name, s.Spec.ClusterIP, s.Spec.ClusterIPs = "other", "10.96.0.21", []string{"10.96.0.21"}
		s.Spec.Ports = []corev1.ServicePort{{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}}
	})
	b.serve(t, newService("web1"), other)
	conn, err := b.hosts["asker1"].Dial(context.Background(), "udp", "10.96.0.21:53")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	first := askAgain(t, conn)
	for range 5 {
		b.change(t, newService())
		b.change(t, newService("web2"))
		if again := askAgain(t, conn); again != first {
			t.Fatalf("the flow moved from %s to %s", first, again)
		}
	}
}

// askAgain sends one datagram on a socket and returns the name of the pod that answers it.
func askAgain(t *testing.T, conn net.Conn) string {
	t.Helper()
	buffer := make([]byte, 1<<10)
	if err := conn.SetReadDeadline(time.Now().Add(answerBound)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "who?"); err != nil {
		return refusedOr(err)
	}
	n, err := conn.Read(buffer)
	if err != nil {
		return refusedOr(err)
	}
	name, _, _ := strings.Cut(string(buffer[:n]), " ")
	return name
}

func refusedOr(err error) string {
	if strings.Contains(err.Error(), "connection refused") {
		return refused
	}
	return err.Error()
}
