package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// metric reads a metric by its name, with its labels if it has any.
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

// requireOneLine checks how often the agent has logged something. The log has what earlier agents of the node
// said, too, so the text names what only this test has.
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

func (b *bed) awaitIgnored(t *testing.T, reason proxy.Reason, want float64) {
	t.Helper()
	b.awaitMetric(t, fmt.Sprintf("servicegroup_agent_ignored_endpoints{reason=%q}", reason), want)
}

// forge adds a slice to a Service, for the agent to serve.
func (b *bed) forge(t *testing.T, service, name string, change func(*discoveryv1.EndpointSlice), endpoints ...netip.Addr) {
	t.Helper()
	slice := sliceOf(service, endpoints)
	slice.Name = name
	change(slice)
	api := b.Kubernetes.DiscoveryV1().EndpointSlices("default")
	if _, err := api.Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Delete(context.Background(), name, metav1.DeleteOptions{}) })
}

// TestBadEndpointsAreCountedAndTheRestIsServed forges what the API server lets through: each client gets an
// answer from the pods, whatever else is in the slices. What it refuses is in proxy.TestBadEndpointsAreLeftOut.
func TestBadEndpointsAreCountedAndTheRestIsServed(t *testing.T) {
	for _, mode := range []string{"groups", "all"} {
		t.Run(mode, func(t *testing.T) { testBadEndpoints(t, requireBed(t), mode) })
	}
}

func testBadEndpoints(t *testing.T, b *bed, mode string) {
	pods := b.pods(t, "good-"+mode, 1)
	other := b.serviceOf(t, "other-"+mode, func(*corev1.Service) {}, addresses(pods)...)
	vip, unallocated, multicast := netip.MustParseAddr(other.Spec.ClusterIP), netip.MustParseAddr("10.111.255.250"), netip.MustParseAddr("239.1.2.3")
	service := b.serviceOf(t, "bad-"+mode, func(*corev1.Service) {}, pods[0].IPv4, vip, unallocated, multicast, pods[0].IPv4)
	spare := netip.MustParseAddr("10.244.200.9")
	for name, port := range map[string]*int32{"port-nil": nil, "port-0": ptr.To[int32](0)} {
		b.forge(t, service.Name, name, func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = port }, spare)
	}
	agent := b.startAgent(t, "--mode="+mode)
	for reason, want := range map[proxy.Reason]float64{
		proxy.VirtualIP: 2, proxy.NoPodAddress: 1, proxy.DuplicateAddress: 1, proxy.NoPort: 1, proxy.OtherFamily: 0, proxy.NotOurService: 0,
	} {
		b.awaitIgnored(t, reason, want)
	}
	b.awaitEndpoints(t, service.Spec.ClusterIP, addresses(pods))
	if tally := b.node.Tally(t.Context(), "tcp", service.Spec.ClusterIP+":80", 50); tally.Failed > 0 {
		t.Errorf("%d of 50 connections failed: %v", tally.Failed, tally.Errors)
	}
	b.setEndpoints(t, service.Name, vip, spare) // a change does not log it again
	b.awaitEndpoints(t, service.Spec.ClusterIP, []netip.Addr{spare})
	requireOneLine(t, agent, vip.String()+" (virtual-ip)")
	b.setEndpoints(t, service.Name, spare)
	b.awaitIgnored(t, proxy.VirtualIP, 0)
}

// TestASliceOfAnothersServiceIsCounted: our label on a slice does not make its Service ours, nor what it lists.
func TestASliceOfAnothersServiceIsCounted(t *testing.T) {
	b := requireBed(t)
	own, forged := netip.MustParseAddr("10.244.200.1"), netip.MustParseAddr("10.244.200.66")
	ours := b.serviceOf(t, "ours", func(*corev1.Service) {}, own)
	victim := b.serviceOf(t, "victim", func(s *corev1.Service) { s.Labels = nil }, forged) // its slice has our label
	agent := b.startAgent(t)
	b.awaitIgnored(t, proxy.NotOurService, 1)
	b.setEndpoints(t, "victim", forged, own)
	b.awaitIgnored(t, proxy.NotOurService, 2)
	b.awaitEndpoints(t, ours.Spec.ClusterIP, []netip.Addr{own})
	if got := b.programmed(t, victim.Spec.ClusterIP); len(got) > 0 {
		t.Errorf("another's Service leads to %v", got)
	}
	requireOneLine(t, agent, forged.String()+" (service)")
	b.labelSlice(t, "victim", "")
	b.awaitIgnored(t, proxy.NotOurService, 0)
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

// TestTwoServicesClaimOneAddress: the one that had it first keeps it, also when the agent is started again or
// the tables are lost, though the other is older, and that gets it afterwards.
func TestTwoServicesClaimOneAddress(t *testing.T) {
	b := requireBed(t)
	const address = "198.51.100.7"
	agent := b.startAgent(t, "--mode=all")
	first, second := netip.MustParseAddr("10.244.200.1"), netip.MustParseAddr("10.244.200.2")
	other := b.serviceOf(t, "claims-a", func(*corev1.Service) {}, second)
	b.serviceOf(t, "claims-b", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{address} }, first)
	b.awaitEndpoints(t, address, []netip.Addr{first})
	other.Spec.ExternalIPs = []string{address}
	if _, err := b.Kubernetes.CoreV1().Services("default").Update(t.Context(), other, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.awaitMetric(t, "servicegroup_agent_conflicting_services", 1)
	b.setEndpoints(t, "claims-a") // a change does not log it again
	b.awaitEndpoints(t, other.Spec.ClusterIP, nil)
	b.setEndpoints(t, "claims-a", second)
	b.awaitEndpoints(t, other.Spec.ClusterIP, []netip.Addr{second})
	b.awaitEndpoints(t, address, []netip.Addr{first})
	requireOneLine(t, agent, address+":80 tcp")

	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	b.startAgent(t, "--mode=all") // ready means programmed
	if got := b.programmed(t, address); !slices.Equal(got, []netip.Addr{first}) {
		t.Errorf("after a restart the address leads to %v, want %v", got, first)
	}
	b.awaitMetric(t, "servicegroup_agent_conflicting_services", 1)
	for _, loss := range []string{"flush ruleset", "delete table ip servicegroup", "delete table ip servicegroup; delete table ip6 servicegroup"} {
		b.nft(t, loss)
		b.awaitEndpoints(t, other.Spec.ClusterIP, []netip.Addr{second})
		b.awaitEndpoints(t, address, []netip.Addr{first})
	}

	if err := b.Kubernetes.CoreV1().Services("default").Delete(t.Context(), "claims-b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.awaitEndpoints(t, address, []netip.Addr{second})
	b.awaitMetric(t, "servicegroup_agent_conflicting_services", 0)
}

// TestEndpointsOverTheLimitAreCounted: a Service with more endpoints than a frontend may have is served by as many.
func TestEndpointsOverTheLimitAreCounted(t *testing.T) {
	b := requireBed(t)
	agent := b.startAgent(t)
	service := b.serviceOf(t, "crowd", func(*corev1.Service) {})
	const slices, perSlice = 17, 1000 // what a slice may have
	for i := range slices {
		var endpoints []netip.Addr
		for j := range perSlice {
			endpoints = append(endpoints, netip.AddrFrom4([4]byte{10, 245, byte(i*4 + j>>8), byte(j)}))
		}
		b.forge(t, service.Name, fmt.Sprintf("crowd-%d", i), func(*discoveryv1.EndpointSlice) {}, endpoints...)
	}
	served := func(want int) {
		t.Helper()
		eventually(t, "waiting for endpoints", func() error {
			elements, err := b.tables.Elements() // which may be those of before a change and of after it
			if err != nil {
				return err
			}
			n := 0
			for _, e := range elements {
				if e.Map == ruleset.Endpoints && e.Key.Addr.String() == service.Spec.ClusterIP {
					n++
				}
			}
			if n != want {
				return fmt.Errorf("%d endpoints are served, want %d", n, want)
			}
			return nil
		})
	}
	b.awaitIgnored(t, proxy.OverLimit, slices*perSlice-proxy.MaxEndpoints)
	served(proxy.MaxEndpoints)
	if err := b.Kubernetes.DiscoveryV1().EndpointSlices("default").Delete(t.Context(), "crowd-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.awaitIgnored(t, proxy.OverLimit, 0)
	served((slices - 1) * perSlice)
	requireOneLine(t, agent, `Endpoint addresses left out; the others are served" service=default/`+service.Name+" ")
}
