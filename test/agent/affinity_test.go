package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// A packet that is on its way while its endpoint leaves is learned from when it goes out, after the agent
// has made session affinity forget that endpoint. The client must get away from it all the same, though
// each of its connections has it remembered anew.
func TestABusyClientGetsAwayFromAnEndpointThatLeft(t *testing.T) {
	b := requireBed(t)
	b.startAgent(t)
	pods, err := b.RunPods(t.Context(), lab.PodSpec{Name: "busy", Ports: []lab.Port{lab.UDP(80)}}, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.DeletePods(context.Background(), pods...) })
	service := b.serviceOf(t, "busy", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.Ports[0].Protocol = corev1.ServiceTypeNodePort, corev1.ProtocolUDP
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	})
	address := net.JoinHostPort(b.node.IPv4.String(), fmt.Sprint(service.Spec.Ports[0].NodePort))

	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	defer func() {
		stop()
		busy.Wait()
	}()
	for range 2 {
		busy.Go(func() {
			for ctx.Err() == nil {
				if conn, err := b.client.Dial(ctx, "udp", address); err == nil {
					_, _ = io.WriteString(conn, "who?") // whether and by whom it is answered does not matter
					_ = conn.Close()
				}
			}
		})
	}
	for i := range 20 {
		pod := pods[i%2]
		slice := sliceOf("busy", addresses(pods[i%2:i%2+1]))
		slice.Ports[0].Protocol = ptr.To(corev1.ProtocolUDP)
		if _, err := b.Kubernetes.DiscoveryV1().EndpointSlices("default").Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("change %d", i), func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second/2) // the pods are too busy for every datagram
			defer cancel()
			name, err := b.client.Ask(ctx, "udp", address)
			if err == nil && name != pod.Name {
				err = fmt.Errorf("%s answers, want %s", name, pod.Name)
			}
			return err
		})
	}
}

// Clients whose time runs out while the agent releases those of an endpoint that left must not keep the others
// bound to it.
func TestClientsOfAnEndpointThatLeftAreReleasedWhileOthersRunOut(t *testing.T) {
	b := requireBed(t)
	agent := b.startAgent(t)
	left, stays := netip.MustParseAddr("10.244.200.1"), netip.MustParseAddr("10.244.200.2")
	service := b.serviceOf(t, "full", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }, left, stays)
	b.awaitEndpoints(t, service.Spec.ClusterIP, []netip.Addr{left, stays})
	share := b.shareOf(t, service.Spec.ClusterIP)
	client := netip.MustParseAddr("10.96.128.0")
	var batches [][]string // nft's send buffer is a small one in the lab
	for i := range 30000 { // of which a hundred run out in every second
		if i%2000 == 0 {
			batches = append(batches, nil)
		}
		client = client.Next()
		last := &batches[len(batches)-1]
		*last = append(*last, fmt.Sprintf("%s . %x:%x timeout %dms : %s . 80", client, share>>16, share&0xffff, 1000+10*i, left))
	}
	boundTo := func(endpoint netip.Addr) (n int) {
		t.Helper()
		sessions, err := b.tables.Sessions()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range sessions.Clients {
			if c.Endpoint.Addr == endpoint {
				n++
			}
		}
		return n
	}
	load := func() {
		t.Helper()
		for _, batch := range batches {
			b.nft(t, "add element ip servicegroup affinity { "+strings.Join(batch, ", ")+" }")
		}
		if n := boundTo(left); n < 20000 {
			t.Fatalf("%d clients are bound", n)
		}
	}
	released := func() error {
		if n := boundTo(left); n > 0 {
			return fmt.Errorf("%d clients are still bound to %s", n, left)
		}
		return nil
	}
	load()
	b.setEndpoints(t, "full", stays)
	eventually(t, "its clients are released", released)

	// Nor are they forgotten by an agent that starts after it left.
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	load()
	b.startAgent(t)
	eventually(t, "its clients are released by another agent", released)
}

// shareOf returns the number by which the frontends of a virtual IP share their clients' endpoints.
func (b *bed) shareOf(t *testing.T, vip string) uint32 {
	t.Helper()
	elements, err := b.tables.Elements()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range elements {
		if e.Map == ruleset.AffinityShares && e.Key.Addr.String() == vip {
			return e.Chain.N
		}
	}
	t.Fatalf("%s has no session affinity", vip)
	return 0
}
