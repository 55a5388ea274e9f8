package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
)

// endpoint is a row of an EndpointSlice, written as "10.244.0.1 node1 ready zone-a->zone-a".
type endpoint struct {
	address, node            string
	ready, serving, draining *bool
	forZones, forNodes       []string
}

func ready(address, node string) endpoint {
	return endpoint{address: address, node: node, ready: ptr.To(true), serving: ptr.To(true)}
}

func unready(address string) endpoint {
	return endpoint{address: address, node: "node1", ready: ptr.To(false), serving: ptr.To(false)}
}

func draining(address, node string) endpoint {
	return endpoint{address: address, node: node, ready: ptr.To(false), serving: ptr.To(true), draining: ptr.To(true)}
}

func (e endpoint) hint(zones ...string) endpoint {
	e.forZones = zones
	return e
}

func (e endpoint) hintNodes(nodes ...string) endpoint {
	e.forNodes = nodes
	return e
}

func slice(endpoints ...endpoint) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	for _, e := range endpoints {
		ep := discoveryv1.Endpoint{
			Addresses: []string{e.address}, NodeName: ptr.To(e.node),
			Conditions: discoveryv1.EndpointConditions{Ready: e.ready, Serving: e.serving, Terminating: e.draining},
		}
		if len(e.forZones)+len(e.forNodes) > 0 {
			ep.Hints = &discoveryv1.EndpointHints{}
		}
		for _, zone := range e.forZones {
			ep.Hints.ForZones = append(ep.Hints.ForZones, discoveryv1.ForZone{Name: zone})
		}
		for _, node := range e.forNodes {
			ep.Hints.ForNodes = append(ep.Hints.ForNodes, discoveryv1.ForNode{Name: node})
		}
		s.Endpoints = append(s.Endpoints, ep)
	}
	return s
}

func web(changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}},
	}}
	for _, change := range changes {
		change(s)
	}
	return s
}

func externalLocal(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func internalLocal(s *corev1.Service) {
	s.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
}

func thisNode() Node {
	return Node{Name: "node1", Zone: "zone-a", NodePortAddresses: []netip.Addr{netip.MustParseAddr("192.168.0.1")}}
}

// describe writes a frontend as "address port protocol: endpoints", then what is special about it.
func describe(s Service) string {
	var lines []string
	for _, f := range s.Frontends {
		line := fmt.Sprintf("%s -> %s", f.Key, last(f.Endpoints))
		if len(f.Endpoints) == 0 {
			line += map[Refusal]string{Reject: "reject", Drop: "drop"}[f.Empty]
		}
		if f.ShortCircuit {
			line += " inside " + last(f.ClusterEndpoints)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// last names endpoints by the last number of their address.
func last(endpoints []Endpoint) string {
	var out []string
	for _, ep := range endpoints {
		bytes := ep.Addr.AsSlice()
		out = append(out, fmt.Sprint(bytes[len(bytes)-1]))
	}
	return strings.Join(out, " ")
}

func TestEndpointsOfAFrontend(t *testing.T) {
	const vip, nodePort = "10.96.0.1:80 tcp -> ", "192.168.0.1:30080 tcp -> "
	for _, test := range []struct {
		name    string
		service *corev1.Service
		slices  []*discoveryv1.EndpointSlice
		want    []string
	}{
		{
			"ready endpoints of all slices, sorted", web(),
			[]*discoveryv1.EndpointSlice{slice(ready("10.244.0.3", "node1")), slice(ready("10.244.0.1", "node2"), unready("10.244.0.2"))},
			[]string{vip + "1 3", nodePort + "1 3"},
		},
		{"no slice", web(), nil, []string{vip + "reject", nodePort + "reject"}},
		{
			"nil ready and serving mean true", web(),
			[]*discoveryv1.EndpointSlice{slice(endpoint{address: "10.244.0.1", node: "node1"})},
			[]string{vip + "1", nodePort + "1"},
		},
		{
			"draining endpoints serve only when none is ready", web(),
			[]*discoveryv1.EndpointSlice{slice(draining("10.244.0.1", "node1"), draining("10.244.0.2", "node2"), unready("10.244.0.3"))},
			[]string{vip + "1 2", nodePort + "1 2"},
		},
		{
			"one ready endpoint ends the use of draining ones", web(),
			[]*discoveryv1.EndpointSlice{slice(draining("10.244.0.1", "node1"), ready("10.244.0.2", "node2"))},
			[]string{vip + "2", nodePort + "2"},
		},
		{
			"a duplicate that is not terminating wins", web(),
			[]*discoveryv1.EndpointSlice{slice(draining("10.244.0.1", "node1")), slice(ready("10.244.0.1", "node1"))},
			[]string{vip + "1", nodePort + "1"},
		},
		{
			"external policy Local", web(externalLocal),
			[]*discoveryv1.EndpointSlice{slice(ready("10.244.0.1", "node1"), ready("10.244.0.2", "node2"))},
			[]string{vip + "1 2", nodePort + "1 inside 1 2"},
		},
		{
			"external policy Local without a local endpoint drops", web(externalLocal),
			[]*discoveryv1.EndpointSlice{slice(ready("10.244.0.2", "node2"))},
			[]string{vip + "2", nodePort + "drop inside 2"},
		},
		{
			"external policy Local without any endpoint rejects", web(externalLocal), nil,
			[]string{vip + "reject", nodePort + "reject inside "},
		},
		{
			"external policy Local falls back to local draining endpoints", web(externalLocal),
			[]*discoveryv1.EndpointSlice{slice(draining("10.244.0.1", "node1"), ready("10.244.0.2", "node2"))},
			[]string{vip + "2", nodePort + "1 inside 2"},
		},
		{
			"internal policy Local", web(internalLocal),
			[]*discoveryv1.EndpointSlice{slice(ready("10.244.0.1", "node1"), ready("10.244.0.2", "node2"))},
			[]string{vip + "1", nodePort + "1 2"},
		},
		{
			"internal policy Local without a local endpoint drops", web(internalLocal),
			[]*discoveryv1.EndpointSlice{slice(ready("10.244.0.2", "node2"))},
			[]string{vip + "drop", nodePort + "2"},
		},
		{
			"zone hints", web(),
			[]*discoveryv1.EndpointSlice{slice(ready("10.244.0.1", "node1").hint("zone-a"), ready("10.244.0.2", "node2").hint("zone-b"))},
			[]string{vip + "1", nodePort + "1"},
		},
		{
			"zone hints are ignored when one endpoint has none", web(),
			[]*discoveryv1.EndpointSlice{slice(ready("10.244.0.1", "node1").hint("zone-a"), ready("10.244.0.2", "node2"))},
			[]string{vip + "1 2", nodePort + "1 2"},
		},
		{
			"zone hints are ignored when none is for this zone", web(),
			[]*discoveryv1.EndpointSlice{slice(ready("10.244.0.1", "node1").hint("zone-c"), ready("10.244.0.2", "node2").hint("zone-b"))},
			[]string{vip + "1 2", nodePort + "1 2"},
		},
		{
			"node hints go before zone hints", web(),
			[]*discoveryv1.EndpointSlice{slice(
				ready("10.244.0.1", "node1").hint("zone-a").hintNodes("node2"),
				ready("10.244.0.2", "node2").hint("zone-a").hintNodes("node1"))},
			[]string{vip + "2", nodePort + "2"},
		},
		{
			"hints of endpoints that are not ready do not count", web(),
			[]*discoveryv1.EndpointSlice{slice(ready("10.244.0.1", "node1").hint("zone-a"), ready("10.244.0.2", "node2").hint("zone-b"), unready("10.244.0.3"))},
			[]string{vip + "1", nodePort + "1"},
		},
		{"headless", web(func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }), nil, nil},
		{"ExternalName", web(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := describe(Build(test.service, test.slices, thisNode())); got != strings.Join(test.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", got, strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestTheFirstAddressOfAnEndpointCounts(t *testing.T) {
	several := slice(ready("10.244.0.1", "node1"))
	several.Endpoints[0].Addresses = append(several.Endpoints[0].Addresses, "10.244.0.2", "127.0.0.1")
	got := Build(web(), []*discoveryv1.EndpointSlice{several}, thisNode())
	if chosen := last(got.Frontends[0].Endpoints); chosen != "1" || len(got.Ignored) > 0 {
		t.Errorf("endpoints %q and ignored %v, want 1 and none", chosen, got.Ignored)
	}
}

func TestSlicesOfAnotherPortOrFamilyDoNotCount(t *testing.T) {
	other := func(change func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
		s := slice(ready("10.244.0.9", "node1"))
		change(s)
		return s
	}
	got := Build(web(), []*discoveryv1.EndpointSlice{
		slice(ready("10.244.0.1", "node1")),
		other(func(s *discoveryv1.EndpointSlice) { s.Ports[0].Name = ptr.To("admin") }),
		other(func(s *discoveryv1.EndpointSlice) { s.Ports[0].Protocol = ptr.To(corev1.ProtocolUDP) }),
		other(func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = nil }),
		other(func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = ptr.To[int32](0) }),
		other(func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeFQDN }),
	}, thisNode())
	if chosen := last(got.Frontends[0].Endpoints); chosen != "1" {
		t.Errorf("endpoints %q, want 1", chosen)
	}
}

func TestExternalAddresses(t *testing.T) {
	service := web(func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{
			{IP: "203.0.113.1"}, {IP: "203.0.113.2", IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)}, {Hostname: "lb.example"}, {IP: "127.0.0.1"},
		}
	})
	node := thisNode()
	node.NodePortAddresses = append(node.NodePortAddresses, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fd00::1"))
	got := Build(service, []*discoveryv1.EndpointSlice{slice(ready("10.244.0.1", "node1"))}, node)
	want := "10.96.0.1:80 tcp -> 1\n192.168.0.1:30080 tcp -> 1\n203.0.113.1:80 tcp -> 1"
	if describe(got) != want {
		t.Errorf("got\n%s\nwant\n%s", describe(got), want)
	}
	for _, f := range got.Frontends {
		if external := f.Addr != netip.MustParseAddr("10.96.0.1"); external != (f.Masquerade == MasqueradeAlways) {
			t.Errorf("%s has masquerade %v", f.Key, f.Masquerade)
		}
	}
}

func TestSourceRanges(t *testing.T) {
	for _, test := range []struct {
		ranges []string
		want   string
	}{
		{nil, "[]"},
		{[]string{"198.51.100.0/24", "fd00::/8"}, "[198.51.100.0/24]"},
		{[]string{" 198.51.100.7/24 "}, "[198.51.100.0/24]"},
		{[]string{"fd00::/8"}, "[]"},
		{[]string{"198.51.100.0/24", "0.0.0.0/0"}, "[]"},
		{[]string{"192.168.0.0/24"}, "[192.168.0.0/24 203.0.113.1/32]"},
	} {
		got := Build(web(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.LoadBalancerSourceRanges = corev1.ServiceTypeLoadBalancer, test.ranges
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}}
		}), nil, thisNode())
		for _, f := range got.Frontends {
			want := "[]"
			if f.Addr == netip.MustParseAddr("203.0.113.1") {
				want = test.want
			}
			if fmt.Sprint(f.SourceRanges) != want {
				t.Errorf("ranges %q: %s lets %v through, want %s", test.ranges, f.Key, f.SourceRanges, want)
			}
		}
	}
}

func TestHealthCheckCountsTheReadyPodsOfThisNode(t *testing.T) {
	service := web(externalLocal, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, 31000
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "http", Port: 81})
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, "fd00:96::1")
	})
	v6 := slice(ready("fd00:244::1", "node1"), ready("fd00:244::5", "node2"))
	v6.AddressType = discoveryv1.AddressTypeIPv6
	endpoints := []*discoveryv1.EndpointSlice{v6, slice(
		ready("10.244.0.1", "node1"), ready("10.244.0.2", "node1"), unready("10.244.0.3"),
		draining("10.244.0.4", "node1"), ready("10.244.0.5", "node2"))}
	got := Build(service, endpoints, thisNode())
	if got.HealthCheckNodePort != 31000 || got.LocalReady != (PerFamily{IPv4: 2, IPv6: 1}) {
		t.Errorf("port %d, pods %+v; want 31000, 2 and 1", got.HealthCheckNodePort, got.LocalReady)
	}
	got = Build(web(func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 31000 }), endpoints, thisNode())
	if got.HealthCheckNodePort != 0 {
		t.Errorf("a Service that is not a load balancer with policy Local answers on port %d", got.HealthCheckNodePort)
	}
}

func TestExternalIPsAreServedOnlyWhereAllowed(t *testing.T) {
	service := web(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"198.51.100.1", "127.0.0.1", "fd00::1"} })
	for _, allowed := range []bool{true, false} {
		node := thisNode()
		node.ExternalIPs = allowed
		_, served := slices.BinarySearchFunc(Build(service, nil, node).Frontends,
			Key{Addr: netip.MustParseAddr("198.51.100.1"), Port: 80, Protocol: TCP}, func(f Frontend, k Key) int { return f.Key.Compare(k) })
		if served != allowed {
			t.Errorf("allowed %v, served %v", allowed, served)
		}
	}
}

func TestSessionAffinity(t *testing.T) {
	for _, test := range []struct {
		config *corev1.SessionAffinityConfig
		want   int32
	}{
		{nil, 10800},
		{&corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To[int32](7)}}, 7},
	} {
		got := Build(web(func(s *corev1.Service) {
			s.Spec.SessionAffinity, s.Spec.SessionAffinityConfig = corev1.ServiceAffinityClientIP, test.config
		}), nil, thisNode())
		if seconds := got.Frontends[0].AffinitySeconds; seconds != test.want {
			t.Errorf("affinity of %d s, want %d", seconds, test.want)
		}
	}
}

// TestAVirtualIPAmongTheExternalAddressesStaysOne takes more ports than a sort keeps in order by chance.
func TestAVirtualIPAmongTheExternalAddressesStaysOne(t *testing.T) {
	node := thisNode()
	node.ExternalIPs = true
	got := Build(web(func(s *corev1.Service) {
		s.Spec.ExternalIPs, s.Spec.Ports = []string{s.Spec.ClusterIP}, nil
		for port := range int32(100) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "http", Port: 1000 + port*37%100})
		}
	}), nil, node)
	if len(got.Frontends) != 100 {
		t.Errorf("%d frontends, want one for each port", len(got.Frontends))
	}
	for _, f := range got.Frontends {
		if f.Masquerade != MasqueradeOutside {
			t.Fatalf("%s masquerades like an external address", f.Key)
		}
	}
}
