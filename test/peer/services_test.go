package peer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// zones are those of the nodes.
var zones = []string{"zone-a", "zone-b"}

// cluster is a lab, of whose nodes the first one is asked, with pods on it and on others.
type cluster struct {
	*lab.Lab
	random *rand.Rand
	node   *lab.Node
	// pods serve what Services lead to: the first two on the node that is asked.
	pods []*lab.Workload
	// sources ask.
	sources []source
	// virtualIPs are those of all Services.
	virtualIPs []string
}

// podPorts are what every pod serves over TCP and UDP.
var podPorts = []int32{8080, 9090}

// createService creates the Service of this number, with its endpoints.
func (c *cluster) createService(t *testing.T, number int) *corev1.Service {
	t.Helper()
	service := c.randomService(number)
	created, err := c.Kubernetes.CoreV1().Services("default").Create(t.Context(), service, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.virtualIPs = append(c.virtualIPs, created.Spec.ClusterIPs...)
	for _, family := range created.Spec.IPFamilies {
		for _, slice := range c.randomSlices(created, family) {
			if _, err := c.Kubernetes.DiscoveryV1().EndpointSlices("default").Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if created.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return created
	}
	for i, ip := range numbered(created.Spec.IPFamilies, "203.0.113", "2001:db8:203:", number) {
		ingress := corev1.LoadBalancerIngress{IP: ip}
		if c.oneIn(5) && i == 0 {
			ingress.IPMode = ptr.To(corev1.LoadBalancerIPModeProxy)
		}
		created.Status.LoadBalancer.Ingress = append(created.Status.LoadBalancer.Ingress, ingress)
	}
	if created, err = c.Kubernetes.CoreV1().Services("default").UpdateStatus(t.Context(), created, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	return created
}

// numbered are the addresses of a number after these prefixes, of each family.
func numbered(families []corev1.IPFamily, v4, v6 string, number int) (out []string) {
	for _, family := range families {
		if family == corev1.IPv4Protocol {
			out = append(out, fmt.Sprintf("%s.%d", v4, number))
		} else {
			out = append(out, fmt.Sprintf("%s:%x", v6, number))
		}
	}
	return out
}

// randomService is a Service as users write them, of any kind that has a virtual IP.
func (c *cluster) randomService(number int) *corev1.Service {
	name := fmt.Sprintf("service-%d", number)
	spec := corev1.ServiceSpec{
		Type:           pick(c, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer),
		IPFamilies:     pick(c, []corev1.IPFamily{corev1.IPv4Protocol}, []corev1.IPFamily{corev1.IPv6Protocol}, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}),
		IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack),
	}
	if len(spec.IPFamilies) == 2 {
		spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
	}
	protocols := []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}
	for i := range 1 + c.random.IntN(3) {
		spec.Ports = append(spec.Ports, corev1.ServicePort{
			Name: fmt.Sprintf("port-%d", i), Port: int32(80 + i/2), Protocol: protocols[i%2],
		})
	}
	if c.oneIn(4) {
		spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
	}
	if c.oneIn(4) {
		spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	if c.oneIn(4) {
		spec.ExternalIPs = numbered(spec.IPFamilies, "198.51.100", "2001:db8:198:", number)
	}
	if spec.Type == corev1.ServiceTypeClusterIP {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	}
	if c.oneIn(2) {
		spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		if c.oneIn(4) {
			spec.AllocateLoadBalancerNodePorts = ptr.To(false)
		}
		if c.oneIn(2) {
			spec.LoadBalancerSourceRanges = c.randomRanges(spec.IPFamilies)
		}
	}
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
}

// randomRanges are one or two ranges that hold everybody, some or nobody of those who ask.
func (c *cluster) randomRanges(families []corev1.IPFamily) []string {
	var all []string
	for _, family := range families {
		i := slices.Index([]corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, family)
		everybody, pods, nobody := []string{"0.0.0.0/0", "::/0"}, []string{lab.ClusterCIDRv4, lab.ClusterCIDRv6}, []string{"192.0.2.0/24", "2001:db8:2::/64"}
		all = append(all, everybody[i], pods[i], nobody[i], prefixOf(c.node.Addresses()[i]))
		for _, s := range c.sources {
			all = append(all, prefixOf(s.Addresses()[i]))
		}
	}
	return slices.Compact([]string{pick(c, all...), pick(c, all...)})
}

func prefixOf(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// randomSlices are the endpoints of one family, among them such as only look like some.
func (c *cluster) randomSlices(service *corev1.Service, family corev1.IPFamily) []*discoveryv1.EndpointSlice {
	hinted := hints{zones: c.oneIn(2)}
	hinted.nodes = hinted.zones && c.oneIn(3)
	var out []*discoveryv1.EndpointSlice
	for i := range 1 + c.random.IntN(2) {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				GenerateName: service.Name + "-", Labels: map[string]string{discoveryv1.LabelServiceName: service.Name},
			},
			AddressType: discoveryv1.AddressType(family),
		}
		for _, port := range service.Spec.Ports {
			if c.oneIn(12) {
				continue // the pods of this slice lack it
			}
			number := ptr.To(podPorts[i])
			if c.oneIn(12) {
				number = nil
			}
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: ptr.To(port.Name), Protocol: ptr.To(port.Protocol), Port: number})
		}
		if !c.oneIn(5) {
			for _, pod := range c.pods {
				if !c.oneIn(3) {
					slice.Endpoints = append(slice.Endpoints, c.randomEndpoint(pod, family, hinted))
				}
			}
		}
		out = append(out, slice)
	}
	return out
}

// hints say which topology hints the endpoints of a slice have, most of them.
type hints struct{ zones, nodes bool }

func (c *cluster) randomEndpoint(pod *lab.Workload, family corev1.IPFamily, hinted hints) discoveryv1.Endpoint {
	address := pod.IPv4
	if family == corev1.IPv6Protocol {
		address = pod.IPv6
	}
	ep := discoveryv1.Endpoint{
		Addresses: []string{address.String()}, NodeName: ptr.To(pod.Node.Name), Zone: ptr.To(zones[pod.Node.Number-1]),
	}
	switch c.random.IntN(12) {
	case 0: // terminating
		ep.Conditions = discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(true), Terminating: ptr.To(true)}
	case 1: // terminating, and no longer serving
		ep.Conditions = discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(false), Terminating: ptr.To(true)}
	case 2: // not ready
		ep.Conditions = discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(false)}
	case 3: // nothing said
	default:
		ep.Conditions = discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)}
	}
	if hinted.zones && !c.oneIn(12) {
		ep.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: *ep.Zone}}}
		if hinted.nodes {
			ep.Hints.ForNodes = []discoveryv1.ForNode{{Name: pod.Node.Name}}
		}
	}
	return ep
}

func (c *cluster) oneIn(n int) bool { return c.random.IntN(n) == 0 }

func pick[T any](c *cluster, from ...T) T { return from[c.random.IntN(len(from))] }
