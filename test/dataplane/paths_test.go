package dataplane

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

func TestClusterIP(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService("web1", "web2", "web3"))
	b.run(t, []path{
		{from: "asker1", to: "vip:80/tcp", want: "web1 web2 web3", source: "asker1"},
		{from: "asker2", to: "vip:80/tcp", want: "web1 web2 web3", source: "asker2"},
		{from: "asker1", to: "vip:53/udp", want: "web1 web2 web3", source: "asker1"},
		{from: "asker2", to: "vip:53/udp", want: "web1 web2 web3", source: "asker2"},
		{from: "node1", to: "vip:80/tcp", want: "web1 web2 web3", source: "node1"},
		{from: "node1", to: "vip:53/udp", want: "web1 web2 web3", source: "node1"},
		{from: "node2", to: "vip:80/tcp", want: "web1 web2 web3", source: "node2"},
		{from: "node2", to: "vip:53/udp", want: "web1 web2 web3", source: "node2"},
		{from: "client", to: "vip:80/tcp", want: "web1 web2 web3", source: "node1"},
		{from: "client", to: "vip:53/udp", want: "web1 web2 web3", source: "node1"},
	})
}

func TestNodePort(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService("web1", "web2", "web3"))
	b.run(t, []path{
		{from: "client", to: "node1:30080/tcp", want: "web1 web2 web3", source: "node1"},
		{from: "client", to: "node2:30080/tcp", want: "web1 web2 web3", source: "node2"},
		{from: "client", to: "node1:30053/udp", want: "web1 web2 web3", source: "node1"},
		{from: "client", to: "node2:30053/udp", want: "web1 web2 web3", source: "node2"},
		{from: "asker1", to: "node1:30080/tcp", want: "web1 web2 web3", source: "node1"},
		{from: "asker1", to: "node1:30053/udp", want: "web1 web2 web3", source: "node1"},
		{from: "asker1", to: "node2:30080/tcp", want: "web1 web2 web3", source: "node2"},
		{from: "asker2", to: "node1:30053/udp", want: "web1 web2 web3", source: "node1"},
		{from: "node1", to: "node1:30080/tcp", want: "web1 web2 web3", source: "node1"},
		{from: "node1", to: "node1:30053/udp", want: "web1 web2 web3", source: "node1"},
		{from: "node1", to: "node2:30080/tcp", want: "web1 web2 web3", source: "node2"},
		{from: "node1", to: "node2:30053/udp", want: "web1 web2 web3", source: "node2"},
	})
}

func TestANodeWithoutAPodAnswersOnItsNodePort(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService("web3"))
	b.run(t, []path{
		{from: "client", to: "node1:30080/tcp", want: "web3", source: "node1"},
		{from: "client", to: "node1:30053/udp", want: "web3", source: "node1"},
		{from: "asker1", to: "node1:30080/tcp", want: "web3", source: "node1"},
		{from: "node1", to: "node1:30053/udp", want: "web3", source: "node1"},
	})
}

func TestAServiceWithoutEndpointsIsRefusedAtOnce(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService())
	b.run(t, []path{
		{from: "asker1", to: "vip:80/tcp", want: refused},
		{from: "asker1", to: "vip:53/udp", want: refused},
		{from: "asker2", to: "node1:30080/tcp", want: refused},
		{from: "asker2", to: "node2:30053/udp", want: refused},
		{from: "node1", to: "vip:80/tcp", want: refused},
		{from: "node1", to: "vip:53/udp", want: denied},
		{from: "node1", to: "node1:30080/tcp", want: refused},
		{from: "client", to: "vip:80/tcp", want: refused},
		{from: "client", to: "vip:53/udp", want: refused},
		{from: "client", to: "node1:30080/tcp", want: refused},
		{from: "client", to: "node2:30053/udp", want: refused},
	})
}

func TestAPortTheServiceLacksIsRefused(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService("web1"))
	b.run(t, []path{
		{from: "asker1", to: "vip:81/tcp", want: refused},
		{from: "asker1", to: "vip:80/udp", want: refused},
		{from: "asker2", to: "vip:81/tcp", want: refused},
		{from: "node1", to: "vip:81/tcp", want: refused},
		{from: "node2", to: "vip:80/udp", want: denied},
		{from: "client", to: "vip:81/tcp", want: refused},
		{from: "client", to: "vip:81/udp", want: refused},
	})
}

// Whoever writes external addresses might take a port of another's virtual IP, where the clients of that Service
// expect an answer or a refusal of its own: DNS over TLS beside DNS, say.
func TestAPortOfAnothersVirtualIPIsRefused(t *testing.T) {
	b := requireBed(t)
	thief := newService("web2").with(func(s *corev1.Service) {
		s.Name, s.Spec.Type, s.Spec.ExternalIPs = "thief", corev1.ServiceTypeClusterIP, s.Spec.ClusterIPs
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.96.0.21", []string{"10.96.0.21", "fd00:10:96::21"}
		s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 81}, {Name: "dns", Port: 54, Protocol: corev1.ProtocolUDP}}
	})
	b.serve(t, thief)
	b.run(t, []path{
		{from: "asker1", to: "vip:81/tcp", want: "web2"}, // nobody else's yet
		{from: "client", to: "vip:54/udp", want: "web2"},
	})
	b.change(t, newService("web1"))
	refusals := []path{
		{from: "asker1", to: "vip:81/tcp", want: refused},
		{from: "asker2", to: "vip:54/udp", want: refused},
		{from: "node1", to: "vip:81/tcp", want: refused},
		{from: "node2", to: "vip:54/udp", want: denied},
		{from: "client", to: "vip:81/tcp", want: refused},
		{from: "client", to: "vip:54/udp", want: refused},
		{from: "asker1", to: "vip:80/tcp", want: "web1"},
		{from: "asker1", to: "other:81/tcp", want: "web2"},
	}
	b.run(t, refusals)
	b.serve(t, newService("web1"), thief)
	b.run(t, refusals)
}

// Whoever writes EndpointSlices might lead a Service to the virtual IP of another.
func TestAVirtualIPAsEndpointIsRefused(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService("vip"))
	b.run(t, []path{
		{from: "asker1", to: "vip:80/tcp", want: refused},
		{from: "asker1", to: "vip:53/udp", want: refused},
		{from: "node1", to: "vip:80/tcp", want: refused},
		{from: "client", to: "node1:30080/tcp", want: refused},
	})
}

func TestHairpin(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService("web1"))
	b.run(t, []path{
		{from: "web1", to: "vip:80/tcp", want: "web1", source: "node1"},
		{from: "web1", to: "vip:53/udp", want: "web1", source: "node1"},
		{from: "web1", to: "node1:30080/tcp", want: "web1", source: "node1"},
		{from: "web1", to: "node1:30053/udp", want: "web1", source: "node1"},
		{from: "web1", to: "node2:30080/tcp", want: "web1", source: "node2"}, // by way of another node
		{from: "web2", to: "vip:80/tcp", want: "web1", source: "web2"},
	})
}

func TestExternalTrafficPolicyLocal(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService("web1", "web2").with(func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}))
	b.run(t, []path{
		{from: "client", to: "node1:30080/tcp", want: "web1 web2", source: "client"},
		{from: "client", to: "node1:30053/udp", want: "web1 web2", source: "client"},
		{from: "client", to: "node2:30080/tcp", want: dropped},
		{from: "client", to: "node2:30053/udp", want: dropped},
		// From inside, a Local policy hides no endpoint.
		{from: "asker2", to: "node2:30080/tcp", want: "web1 web2", source: "asker2"},
		{from: "asker2", to: "node2:30053/udp", want: "web1 web2", source: "asker2"},
		{from: "asker1", to: "node1:30053/udp", want: "web1 web2", source: "asker1"},
		{from: "node2", to: "node2:30080/tcp", want: "web1 web2", source: "node2"},
		{from: "node2", to: "node2:30053/udp", want: "web1 web2", source: "node2"},
		{from: "asker2", to: "vip:80/tcp", want: "web1 web2", source: "asker2"},
		{from: "client", to: "vip:53/udp", want: "web1 web2", source: "node1"},
	})
}

func TestExternalTrafficPolicyLocalWithoutAnyEndpointIsRefused(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService().with(func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}))
	b.run(t, []path{
		{from: "client", to: "node1:30080/tcp", want: refused},
		{from: "client", to: "node1:30053/udp", want: refused},
		{from: "asker1", to: "node1:30080/tcp", want: refused},
		{from: "node1", to: "node1:30080/tcp", want: refused},
	})
}

func TestInternalTrafficPolicyLocal(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService("web1", "web2").with(func(s *corev1.Service) {
		local := corev1.ServiceInternalTrafficPolicyLocal
		s.Spec.InternalTrafficPolicy = &local
	}))
	b.run(t, []path{
		{from: "asker1", to: "vip:80/tcp", want: "web1 web2", source: "asker1"},
		{from: "asker1", to: "vip:53/udp", want: "web1 web2", source: "asker1"},
		{from: "node1", to: "vip:80/tcp", want: "web1 web2", source: "node1"},
		{from: "client", to: "vip:80/tcp", want: "web1 web2", source: "node1"},
		{from: "asker2", to: "vip:80/tcp", want: dropped},
		{from: "asker2", to: "vip:53/udp", want: dropped},
		{from: "node2", to: "vip:53/udp", want: denied},
		{from: "client", to: "node2:30080/tcp", want: "web1 web2", source: "node2"},
	})
}

// toAnExternalAddress are the ways to an address from outside the cluster: every node answers for all pods, in
// its own name.
var toAnExternalAddress = []path{
	{from: "client", to: "lb:80/tcp", want: "web1 web3", source: "node1"},
	{from: "client", to: "lb:53/udp", want: "web1 web3", source: "node1"},
	{from: "asker1", to: "lb:80/tcp", want: "web1 web3", source: "node1"},
	{from: "asker2", to: "lb:53/udp", want: "web1 web3", source: "node2"},
	{from: "node2", to: "lb:80/tcp", want: "web1 web3", source: "node2"},
}

func TestLoadBalancerAddress(t *testing.T) {
	b := requireBed(t)
	balanced := newService("web1", "web3").with(func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.96.255.7"}, {IP: "fd00:10:96::ff07"}}
	})
	b.serve(t, balanced)
	b.run(t, toAnExternalAddress)
	b.serve(t, balanced.with(func(s *corev1.Service) {
		proxied := corev1.LoadBalancerIPModeProxy
		for i := range s.Status.LoadBalancer.Ingress {
			s.Status.LoadBalancer.Ingress[i].IPMode = &proxied
		}
	}))
	b.run(t, []path{{from: "client", to: "lb:80/tcp", want: dropped}})
}

func TestExternalIP(t *testing.T) {
	b := requireBed(t)
	external := newService("web1", "web3").with(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"10.96.255.7", "fd00:10:96::ff07"} })
	b.serve(t, external)
	b.run(t, toAnExternalAddress)
	b.serve(t, external.with(func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }))
	b.run(t, []path{
		{from: "client", to: "lb:80/tcp", want: "web1", source: "client"},
		{from: "client", to: "lb:53/udp", want: "web1", source: "client"},
		{from: "asker2", to: "lb:80/tcp", want: "web1 web3", source: "asker2"},
	})
}

// TestPodsThatTerminateServeWhereNoneIsReady: separately for each policy.
func TestPodsThatTerminateServeWhereNoneIsReady(t *testing.T) {
	b := requireBed(t)
	local := func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }
	some := newService("web3").with(local)
	some.terminating = []string{"web1", "web2"}
	b.serve(t, some)
	b.run(t, []path{
		{from: "asker1", to: "vip:80/tcp", want: "web3"},
		{from: "client", to: "node1:30080/tcp", want: "web1 web2", source: "client"},
		{from: "client", to: "node1:30053/udp", want: "web1 web2", source: "client"},
		{from: "client", to: "node2:30080/tcp", want: "web3", source: "client"},
	})
	none := newService()
	none.terminating = []string{"web1", "web3"}
	b.serve(t, none)
	b.run(t, []path{
		{from: "asker1", to: "vip:80/tcp", want: "web1 web3"},
		{from: "client", to: "node2:30053/udp", want: "web1 web3"},
	})
}

func TestLoadBalancerSourceRanges(t *testing.T) {
	b := requireBed(t)
	from := func(ranges ...string) service {
		return newService("web1", "web3").with(func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Spec.LoadBalancerSourceRanges = ranges
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.96.255.7"}, {IP: "fd00:10:96::ff07"}}
		})
	}
	b.serve(t, from("10.244.0.0/16", "fd00:10:244::/48"))
	b.run(t, []path{
		{from: "asker1", to: "lb:80/tcp", want: "web1 web3", source: "node1"},
		{from: "asker2", to: "lb:53/udp", want: "web1 web3", source: "node2"},
		{from: "client", to: "lb:80/tcp", want: dropped},
		{from: "client", to: "lb:53/udp", want: dropped},
		// The ranges guard the load balancer's address only.
		{from: "client", to: "node1:30080/tcp", want: "web1 web3", source: "node1"},
	})
	b.change(t, from("10.244.0.0/16", "192.168.100.0/24", "fd00:64::/64"))
	b.run(t, []path{{from: "client", to: "lb:80/tcp", want: "web1 web3", source: "node1"}})
	b.change(t, from("192.0.2.0/24", "0.0.0.0/0", "::/0"))
	b.run(t, []path{{from: "client", to: "lb:80/tcp", want: "web1 web3", source: "node1"}})
}

func TestAnAddressOfTheServiceRangeThatNoServiceHasIsDropped(t *testing.T) {
	b := requireBed(t)
	cidrs := []netip.Prefix{netip.MustParsePrefix(lab.ServiceCIDRv4), netip.MustParsePrefix(lab.ServiceCIDRv6)}
	b.serveFrom(t, &ruleset.Ranges{Services: cidrs}, newService("web1"))
	b.run(t, []path{
		{from: "node1", to: "spare:53/udp", want: denied},
		{from: "node1", to: "spare:80/tcp", want: dropped},
		{from: "asker1", to: "spare:80/tcp", want: dropped},
		{from: "asker2", to: "spare:53/udp", want: dropped},
		{from: "client", to: "spare:80/tcp", want: dropped},
		{from: "asker1", to: "vip:80/tcp", want: "web1"},
		{from: "asker1", to: "vip:81/tcp", want: refused},
	})
}

func TestMasqueradeFollowsTheSourceRanges(t *testing.T) {
	b := requireBed(t)
	for _, test := range []struct {
		name   string
		ranges ruleset.Ranges
		pod    string
		client string
	}{
		{"without a cluster CIDR nothing is masqueraded", ruleset.Ranges{Inside: everything()}, "asker1", "client"},
		{"masquerade all", ruleset.Ranges{Pods: clusterCIDRs()}, "node1", "node1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.serveFrom(t, &test.ranges, newService("web1"))
			b.run(t, []path{
				{from: "asker1", to: "vip:80/tcp", want: "web1", source: test.pod},
				{from: "asker1", to: "vip:53/udp", want: "web1", source: test.pod},
				{from: "client", to: "vip:80/tcp", want: "web1", source: test.client},
				{from: "client", to: "vip:53/udp", want: "web1", source: test.client},
			})
		})
	}
}

func TestPodsAreToldByTheirInterface(t *testing.T) {
	b := requireBed(t)
	open := func(layout nft.Layout) {
		t.Helper()
		for _, node := range b.nodes {
			if err := node.open(layout); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer open(nft.Layout{})
	local := func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }

	open(nft.Layout{PodInterface: "veth*"})
	b.serveFrom(t, &ruleset.Ranges{}, newService("web1", "web2").with(local))
	b.run(t, []path{
		{from: "asker1", to: "vip:80/tcp", want: "web1 web2", source: "asker1"},
		{from: "client", to: "vip:53/udp", want: "web1 web2", source: "node1"},
		{from: "asker2", to: "node2:30080/tcp", want: "web1 web2", source: "asker2"},
		{from: "client", to: "node2:30080/tcp", want: dropped},
	})
	open(nft.Layout{PodInterface: "cni0"})
	b.serveFrom(t, &ruleset.Ranges{}, newService("web1"))
	b.run(t, []path{{from: "asker1", to: "vip:80/tcp", want: "web1", source: "node1"}})

	open(nft.Layout{PodInterface: "veth*", MasqueradeAll: true})
	b.serveFrom(t, &ruleset.Ranges{}, newService("web1"))
	b.run(t, []path{{from: "asker1", to: "vip:80/tcp", want: "web1", source: "node1"}})
}
