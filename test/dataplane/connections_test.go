package dataplane

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/nft"
)

// counted sums what every node has counted.
func (b *bed) counted(t *testing.T) (sum uint64, endpoints int) {
	t.Helper()
	for _, node := range b.nodes {
		counts, err := node.tables.Connections()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range counts {
			if sum += c.Connections; c.Connections > 0 {
				endpoints++
			}
		}
	}
	return sum, endpoints
}

// TestConnectionsAreCounted makes connections in every way an endpoint is chosen, and counts along.
func TestConnectionsAreCounted(t *testing.T) {
	b := requireBed(t)
	open := func(layout nft.Layout) {
		t.Helper()
		for _, node := range b.nodes {
			if err := node.open(layout); err != nil {
				t.Fatal(err)
			}
		}
	}
	open(nft.Layout{CountConnections: true})
	defer open(nft.Layout{})
	b.serve(t)
	local := func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }
	for _, test := range []struct {
		name      string
		service   service
		from, to  string
		endpoints int
	}{
		{"virtual IP", newService("web1", "web2", "web3"), "asker1", "vip:80/tcp", 3},
		{"virtual IP over UDP", newService("web1", "web2", "web3"), "asker1", "vip:53/udp", 3},
		{"from the node", newService("web1", "web2", "web3"), "node1", "vip:80/tcp", 3},
		{"hairpin", newService("web1"), "web1", "vip:80/tcp", 1},
		{"NodePort", newService("web1", "web2", "web3"), "client", "node2:30080/tcp", 3},
		{"session affinity", sticky(60, "web1", "web2", "web3"), "asker1", "vip:80/tcp", 1},
		{"policy Local from outside", newService("web1", "web2", "web3").with(local), "client", "node1:30080/tcp", 2},
		{"policy Local from inside", newService("web1", "web2", "web3").with(local), "asker1", "node1:30080/tcp", 3},
	} {
		for _, ipv4 := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s IPv4=%v", test.name, ipv4), func(t *testing.T) {
				// Without flushing the connections: those that are about to close would count again.
				b.change(t, newService())
				b.change(t, test.service)
				b.observe(path{from: test.from, to: test.to}, ipv4)
				if sum, endpoints := b.counted(t); sum != asks || endpoints != test.endpoints {
					t.Errorf("counted %d connections to %d endpoints, want %d to %d", sum, endpoints, asks, test.endpoints)
				}
			})
		}
	}
}
