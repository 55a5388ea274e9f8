package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// web has a virtual IP, a NodePort and a load balancer's address, and an endpoint on each of two nodes.
func web(change func(s *corev1.Service)) *corev1.Service {
	s := &corev1.Service{Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1",
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}},
	}}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.9"}}
	change(s)
	return s
}

func endpointSlice(nodes ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080)}},
	}
	for _, node := range nodes {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{"10.244." + strings.TrimPrefix(node, "node") + ".1"}, NodeName: ptr.To(node),
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
		})
	}
	return s
}

func elements(service *corev1.Service, slices ...*discoveryv1.EndpointSlice) []ruleset.Element {
	built := proxy.Build(service, slices, proxy.Node{Name: "node1", NodePortAddresses: []netip.Addr{netip.MustParseAddr("192.168.0.1")}})
	pods := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	state := ruleset.NewState()
	state.Apply(ruleset.Update{
		Services: map[types.NamespacedName]*proxy.Service{{Namespace: "shop", Name: "web"}: &built},
		Ranges:   &ruleset.Ranges{Pods: pods, Inside: pods, Services: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}},
	})
	return state.Elements()
}

func packet(from, to string) Packet {
	at := netip.MustParseAddrPort(to)
	return Packet{Source: netip.MustParseAddr(from), To: proxy.Key{Addr: at.Addr(), Port: at.Port(), Protocol: proxy.TCP}}
}

const vip, nodePort, balancer = "10.96.0.1:80", "192.168.0.1:30080", "203.0.113.9:80"

func TestWalk(t *testing.T) {
	same := func(*corev1.Service) {}
	local := func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }
	both := []string{"node1", "node2"}
	for _, test := range []struct {
		name    string
		change  func(*corev1.Service)
		nodes   []string
		packet  Packet
		verdict Verdict
		says    string
		choices int
	}{
		{"a pod", same, both, packet("10.244.9.9", vip), Sent, "no: the endpoint sees the client's address", 2},
		{"from outside to the virtual IP", same, both, packet("192.0.2.1", vip), Sent, "yes: the client is outside the pods' ranges", 2},
		{"an endpoint itself", same, both, packet("10.244.1.1", vip), Sent, "for 10.244.1.1:8080 only: the endpoint is the client itself (hairpin)", 2},
		{"an endpoint that connects to a NodePort", same, both, packet("10.244.1.1", nodePort), Sent, "for 10.244.1.1:8080: the endpoint is the client itself (hairpin); for 10.244.2.1:8080: the endpoint may be", 2},
		{"a NodePort", same, both, packet("192.0.2.1", nodePort), Sent, "must answer through this one", 2},
		{"policy Local from outside", local, both, packet("192.0.2.1", nodePort), Sent, "endpoints on this node only", 1},
		{"policy Local from a pod", local, both, packet("10.244.9.9", nodePort), Sent, "does not bind pods", 2},
		{"policy Local from the node", local, both, Packet{Source: netip.MustParseAddr("192.168.0.1"), To: packet("192.168.0.1", nodePort).To, FromNode: true}, Sent, "does not bind the node itself", 2},
		{"policy Local without a local endpoint", local, []string{"node2"}, packet("192.0.2.1", nodePort), Dropped, "none that the traffic policy allows", 0},
		{"no endpoint", same, nil, packet("10.244.9.9", vip), Rejected, "there is none: refused", 0},
		{"another port", same, both, packet("10.244.9.9", "10.96.0.1:81"), Rejected, "port 81/tcp is none of its frontends", 0},
		{"nobody's virtual IP", same, both, packet("10.244.9.9", "10.96.0.2:80"), Dropped, "no Service has 10.96.0.2", 0},
		{"somewhere else", same, both, packet("10.244.9.9", "192.0.2.7:80"), Untouched, "no frontend here", 0},
		{
			"a source range that is met", func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"} }, both,
			packet("192.0.2.1", balancer), Sent, "192.0.2.1 may come", 2,
		},
		{
			"a source range that is not", func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"} }, both,
			packet("198.51.100.1", balancer), Dropped, "198.51.100.1 is in none of [192.0.2.0/24]: dropped", 0,
		},
		{
			"affinity", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }, both,
			packet("10.244.9.9", vip), Sent, "within the last 10800 s keeps its endpoint", 2,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			way := Walk(Tables{Elements: elements(web(test.change), endpointSlice(test.nodes...))}, test.packet)
			var steps []string
			for _, s := range way.Steps {
				steps = append(steps, s.Check+": "+s.Finding)
			}
			if way.Verdict != test.verdict || len(way.Choices) != test.choices || !strings.Contains(strings.Join(steps, "\n"), test.says) {
				t.Errorf("verdict %s with %d choices, want %s with %d, and %q in\n%s",
					way.Verdict, len(way.Choices), test.verdict, test.choices, test.says, strings.Join(steps, "\n"))
			}
		})
	}
}

func TestSessionAffinityDecides(t *testing.T) {
	all := elements(web(func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }), endpointSlice("node1", "node2"))
	share := all[slices.IndexFunc(all, func(e ruleset.Element) bool { return e.Map == ruleset.AffinityShares })].Chain.N
	entry := ruleset.Remembered{
		Client: netip.MustParseAddr("10.244.9.9"), Share: share, Seconds: 77,
		Endpoint: proxy.Endpoint{Addr: netip.MustParseAddr("10.244.2.1"), Port: 8080},
	}
	walk := func(p Packet, remembered ...ruleset.Remembered) Way {
		return Walk(Tables{Elements: all, Remembered: append([]ruleset.Remembered{}, remembered...)}, p)
	}
	for _, to := range []string{vip, balancer, nodePort} { // they share what is remembered
		way := walk(packet("10.244.9.9", to), entry)
		if len(way.Choices) != 1 || way.Choices[0].Endpoint != entry.Endpoint || way.Remembered == nil || way.Verdict != Sent {
			t.Errorf("to %s: %+v", to, way)
		}
	}
	another, elsewhere := entry, entry
	another.Client, elsewhere.Share = netip.MustParseAddr("10.244.9.8"), share+100
	way := walk(packet("10.244.9.9", vip), another, elsewhere)
	if len(way.Choices) != 2 || way.Remembered != nil || !strings.Contains(fmt.Sprint(way.Steps), "not remembered: drawn anew, and then kept for 10800 s") {
		t.Errorf("not remembered: %+v", way)
	}
	if got := strings.Join(Compare(way, walk(packet("10.244.9.9", vip), entry)), "\n"); got != "the client keeps 10.244.2.1:8080 for 77 s more, which should not be among the choices" {
		t.Errorf("remembered in one of two: %s", got)
	}
}

func TestPodsToldByTheirInterface(t *testing.T) {
	all := elements(web(func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }), endpointSlice("node1", "node2"))
	site := agentapi.Site{PodInterface: "cali*"}
	p := packet("172.16.0.5", nodePort) // in none of the pods' ranges
	if way := Walk(Tables{Elements: all, Site: site}, p); len(way.Choices) != 1 {
		t.Errorf("from outside: %v", way.Choices)
	}
	p.FromLocalPod = true
	if way := Walk(Tables{Elements: all, Site: site}, p); len(way.Choices) != 2 {
		t.Errorf("from a pod of this node: %v", way.Choices)
	}
	toVIP := packet("172.16.0.5", vip)
	toVIP.FromLocalPod = true
	if way := Walk(Tables{Elements: all, Site: site}, toVIP); way.Choices[0].Masqueraded != "" {
		t.Errorf("masqueraded: %s", way.Choices[0].Masqueraded)
	}
	site.MasqueradeAll = true
	if way := Walk(Tables{Elements: all, Site: site}, toVIP); !strings.Contains(way.Choices[0].Masqueraded, "--masquerade-all") {
		t.Errorf("not masqueraded with --masquerade-all: %q", way.Choices[0].Masqueraded)
	}
}

func TestCompare(t *testing.T) {
	p := packet("10.244.9.9", vip)
	right := elements(web(func(*corev1.Service) {}), endpointSlice("node1", "node2"))
	one := elements(web(func(*corev1.Service) {}), endpointSlice("node1"))
	should := Walk(Tables{Elements: right}, p)
	if got := Compare(should, should); len(got) > 0 {
		t.Errorf("differs from itself: %v", got)
	}
	if got := strings.Join(Compare(should, Walk(Tables{Elements: one}, p)), "\n"); got != "endpoint 10.244.2.1:8080 should be among the choices and is not" {
		t.Errorf("one is missing: %s", got)
	}
	if got := strings.Join(Compare(Walk(Tables{Elements: one}, p), should), "\n"); got != "endpoint 10.244.2.1:8080 should not be among the choices and is" {
		t.Errorf("one too many: %s", got)
	}
	if got := strings.Join(Compare(should, Walk(Tables{}, p)), "\n"); !strings.HasPrefix(got, "the connection should be sent and is untouched\n") {
		t.Errorf("without tables: %s", got)
	}
	difference := DiffElements(right, one)
	if len(difference.Surplus) != 3 || !strings.Contains(strings.Join(difference.Missing, "\n"), "endpoints: 10.96.0.1:80 tcp -> 10.244.2.1:8080") {
		t.Errorf("elements: %+v", difference)
	}
	shuffled := make([]ruleset.Element, 0, len(right))
	for _, e := range right {
		if e.Map == ruleset.Endpoints {
			e.Slot = 1 - e.Slot
		}
		shuffled = append(shuffled, e)
	}
	if got := DiffElements(right, shuffled); len(got.Missing)+len(got.Surplus) > 0 {
		t.Errorf("other slots: %+v", got)
	}
}
