package dataplane

import (
	"fmt"
	"net/netip"
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
	for i, test := range []struct {
		name              string
		service           service
		from, to, network string
		endpoints         int
	}{
		{"virtual IP", newService("web1", "web2", "web3"), "asker1", "vip", "tcp", 3},
		{"virtual IP over UDP", newService("web1", "web2", "web3"), "asker1", "vip", "udp", 3},
		{"from the node", newService("web1", "web2", "web3"), "node1", "vip", "tcp", 3},
		{"hairpin", newService("web1"), "web1", "vip", "tcp", 1},
		{"NodePort", newService("web1", "web2", "web3"), "client", "node2", "tcp", 3},
		{"session affinity", sticky(60, "web1", "web2", "web3"), "asker1", "vip", "tcp", 1},
		{"policy Local from outside", newService("web1", "web2", "web3").with(local), "client", "node1", "tcp", 2},
		{"policy Local from inside", newService("web1", "web2", "web3").with(local), "asker1", "node1", "tcp", 3},
	} {
		// On a port of its own: late packets of connections before would count as new ones.
		number := int32(31000 + i)
		service := test.service.with(func(s *corev1.Service) {
			at := map[string]int{"tcp": 0, "udp": 1}[test.network]
			s.Spec.Ports = s.Spec.Ports[at : at+1]
			s.Spec.Ports[0].Port, s.Spec.Ports[0].NodePort = number, number
		})
		for _, ipv4 := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s IPv4=%v", test.name, ipv4), func(t *testing.T) {
				b.change(t, newService())
				b.change(t, service)
				want := b.connect(t, test.from, fmt.Sprintf("%s:%d/%s", test.to, number, test.network), ipv4)
				if sum, endpoints := b.counted(t); sum != want || endpoints != test.endpoints {
					t.Errorf("counted %d connections to %d endpoints, want %d to %d", sum, endpoints, want, test.endpoints)
				}
			})
		}
	}
}

// connect asks again and again, and returns how many connections that were: a UDP socket may get the port
// of one before, and its datagrams belong to the same flow then.
func (b *bed) connect(t *testing.T, from, to string, ipv4 bool) uint64 {
	t.Helper()
	network, address := b.target(to, ipv4)
	clients := map[netip.AddrPort]struct{}{}
	for range asks {
		_, client, err := b.ask(from, network, address, answerBound)
		if err != nil {
			t.Fatal(err)
		}
		clients[client] = struct{}{}
	}
	return uint64(len(clients))
}
