package proxy

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
)

// TestBadEndpointsAreLeftOut puts a bad endpoint beside 10.244.0.1, which is served all the same.
func TestBadEndpointsAreLeftOut(t *testing.T) {
	withPort := func(number *int32) *discoveryv1.EndpointSlice {
		s := slice(ready("10.244.0.2", "node1"))
		s.Ports[0].Port = number
		return s
	}
	for _, test := range []struct {
		name, address string
		// slice is a slice of its own; nil where the address is in one with 10.244.0.1.
		slice  *discoveryv1.EndpointSlice
		reason Reason
	}{
		{name: "loopback", address: "127.0.0.1", reason: NoPodAddress},
		{name: "link-local", address: "169.254.169.254", reason: NoPodAddress},
		{name: "multicast", address: "239.1.2.3", reason: NoPodAddress},
		{name: "link-local multicast", address: "224.0.0.1", reason: NoPodAddress},
		{name: "unspecified", address: "0.0.0.0", reason: NoPodAddress},
		{name: "broadcast", address: "255.255.255.255", reason: NoPodAddress},
		{name: "no address", address: "nonsense", reason: NoPodAddress},
		{name: "IPv6 in an IPv4 slice", address: "fd00::1", reason: OtherFamily},
		{name: "IPv4 written as IPv6", address: "::ffff:10.244.0.9", reason: OtherFamily},
		{name: "this Service's virtual IP", address: "10.96.0.1", reason: VirtualIP},
		{name: "a virtual IP that no Service has", address: "10.96.255.255", reason: VirtualIP},
		{name: "a virtual IP of another range", address: "10.112.0.7", reason: VirtualIP},
		{name: "twice in one slice", address: "10.244.0.1", reason: DuplicateAddress},
		{name: "port nil", address: "10.244.0.2", slice: withPort(nil), reason: NoPort},
		{name: "port 0", address: "10.244.0.2", slice: withPort(ptr.To[int32](0)), reason: NoPort},
		{name: "port 65536", address: "10.244.0.2", slice: withPort(ptr.To[int32](65536)), reason: NoPort},
		{name: "an address of the node", address: "192.168.0.1", reason: ""},
		{name: "an address of another node", address: "192.168.0.2", reason: ""},
		{name: "in another slice too, as that of a pod in two groups", slice: slice(ready("10.244.0.1", "node1"))},
		{name: "of a port that the Service lacks", slice: other(withPort(nil), func(s *discoveryv1.EndpointSlice) { s.Ports[0].Name = ptr.To("admin") })},
	} {
		t.Run(test.name, func(t *testing.T) {
			endpoints, want := []*discoveryv1.EndpointSlice{slice(ready("10.244.0.1", "node1"))}, "1"
			if test.slice != nil {
				endpoints = append(endpoints, test.slice)
			} else {
				endpoints[0] = slice(ready("10.244.0.1", "node1"), ready(test.address, "node1"))
			}
			var ignored []Ignored
			switch {
			case test.reason != "":
				ignored = []Ignored{{Address: test.address, Reason: test.reason}}
			case test.slice == nil:
				want = last([]Endpoint{{Addr: netip.MustParseAddr("10.244.0.1")}, {Addr: netip.MustParseAddr(test.address)}})
			}
			// Two ports of the Service that lead to one port of the slices do not count twice.
			service := web(func(s *corev1.Service) {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "http", Port: 81})
			})
			got := Build(service, endpoints, knowsServiceCIDRs(thisNode()))
			for _, f := range got.Frontends {
				if chosen := last(f.Endpoints); chosen != want {
					t.Errorf("%s leads to %q, want %q", f.Key, chosen, want)
				}
			}
			if !slices.Equal(got.Ignored, ignored) {
				t.Errorf("left out %v, want %v", got.Ignored, ignored)
			}
		})
	}
}

// TestVirtualIPsAreLeftOutWithoutRanges: where the ranges of virtual IPs are not known, single ones may be.
func TestVirtualIPsAreLeftOutWithoutRanges(t *testing.T) {
	node := thisNode()
	node.IsVirtualIP = func(addr netip.Addr) bool { return addr.String() == "10.96.0.9" }
	got := Build(web(func(*corev1.Service) {}), []*discoveryv1.EndpointSlice{slice(ready("10.96.0.9", "node1"), ready("10.96.0.8", "node1"))}, node)
	if want := []Ignored{{Address: "10.96.0.9", Reason: VirtualIP}}; !slices.Equal(got.Ignored, want) {
		t.Errorf("left out %v, want %v", got.Ignored, want)
	}
	for _, f := range got.Frontends {
		if chosen := last(f.Endpoints); chosen != "8" {
			t.Errorf("%s leads to %q, want 8", f.Key, chosen)
		}
	}
}

// TestBadIPv6EndpointsAreLeftOut is the same for what only IPv6 has.
func TestBadIPv6EndpointsAreLeftOut(t *testing.T) {
	bad := slice(ready("fd00:10:244::1", "node1"))
	bad.AddressType = discoveryv1.AddressTypeIPv6
	want := []Ignored{
		{"::1", NoPodAddress}, {"::ffff:10.244.0.9", NoPodAddress}, {"fe80::1", NoPodAddress}, {"fe80::1%eth0", NoPodAddress}, {"ff02::1", NoPodAddress},
		{"10.244.0.9", OtherFamily}, {"fd00:10:96::7", VirtualIP},
	}
	for _, i := range want {
		bad.Endpoints = append(bad.Endpoints, discoveryv1.Endpoint{Addresses: []string{i.Address}})
	}
	got := Build(web(func(s *corev1.Service) {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "fd00:10:96::1", []string{"fd00:10:96::1"}
	}), []*discoveryv1.EndpointSlice{bad}, knowsServiceCIDRs(thisNode()))
	if chosen := last(got.Frontends[0].Endpoints); chosen != "1" {
		t.Errorf("endpoints %q, want 1", chosen)
	}
	if !slices.Equal(got.Ignored, want) {
		t.Errorf("left out %v, want %v", got.Ignored, want)
	}
}

func knowsServiceCIDRs(node Node) Node {
	for _, cidr := range []string{"10.96.0.0/16", "10.112.0.0/24", "fd00:10:96::/112"} {
		node.ServiceCIDRs = append(node.ServiceCIDRs, netip.MustParsePrefix(cidr))
	}
	return node
}

func other(s *discoveryv1.EndpointSlice, change func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
	change(s)
	return s
}

// TestEndpointsOverTheLimitAreLeftOut has a thousand in each slice, as the control plane does, and all of them ready;
// the policy that takes those of this node alone has its own count.
func TestEndpointsOverTheLimitAreLeftOut(t *testing.T) {
	var endpoints []*discoveryv1.EndpointSlice
	for i := range 17 {
		var list []endpoint
		for j := range 1000 {
			node := "node2"
			if i == 16 {
				node = "node1"
			}
			list = append(list, ready(netip.AddrFrom4([4]byte{10, byte(100 + i), byte(j >> 8), byte(j)}).String(), node))
		}
		endpoints = append(endpoints, slice(list...))
	}
	got := Build(web(func(s *corev1.Service) {
		s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}), endpoints, thisNode())
	for _, f := range got.Frontends {
		cluster := f.Endpoints
		if f.ShortCircuit {
			if cluster = f.ClusterEndpoints; len(f.Endpoints) != 1000 {
				t.Errorf("%s leads to %d endpoints of this node, want 1000", f.Key, len(f.Endpoints))
			}
		}
		if len(cluster) != MaxEndpoints {
			t.Errorf("%s leads to %d endpoints, want %d", f.Key, len(cluster), MaxEndpoints)
		}
	}
	if len(got.Ignored) != 17_000-MaxEndpoints || slices.ContainsFunc(got.Ignored, func(i Ignored) bool { return i.Reason != OverLimit }) {
		t.Errorf("left out are %d, want %d, all for the limit", len(got.Ignored), 17_000-MaxEndpoints)
	}
}
