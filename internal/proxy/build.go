package proxy

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

type builder struct {
	service *corev1.Service
	slices  []*discoveryv1.EndpointSlice
	node    Node
	out     Service
	// candidates is the memory for the endpoints of the port at hand.
	candidates []candidate
	// localReady collects the addresses behind out.LocalReady.
	localReady []netip.Addr
}

// Build computes what the node serves for a Service with these EndpointSlices. A headless or
// ExternalName Service has no frontends. The slices may come in any order and are not changed.
func Build(service *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice, node Node) Service {
	if service.Spec.ClusterIP == corev1.ClusterIPNone || service.Spec.Type == corev1.ServiceTypeExternalName {
		return Service{}
	}
	b := &builder{service: service, slices: endpointSlices, node: node}
	b.out.Created = service.CreationTimestamp.Unix()
	for _, text := range clusterIPs(service) {
		vip, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		b.out.VirtualIPs = append(b.out.VirtualIPs, vip)
		for i := range service.Spec.Ports {
			b.addPort(&service.Spec.Ports[i], vip)
		}
	}
	if service.Spec.Type == corev1.ServiceTypeLoadBalancer && service.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		b.out.HealthCheckNodePort = service.Spec.HealthCheckNodePort
	}
	// Stable: of two frontends with one key, that of the virtual IP stays.
	slices.SortStableFunc(b.out.Frontends, func(x, y Frontend) int { return x.Key.Compare(y.Key) })
	b.out.Frontends = slices.CompactFunc(b.out.Frontends, func(x, y Frontend) bool { return x.Key == y.Key })
	b.out.LocalEndpoints = sortedUnique(b.out.LocalEndpoints, netip.Addr.Compare)
	b.out.LocalReady = countFamilies(sortedUnique(b.localReady, netip.Addr.Compare))
	b.out.Ignored = sortedUnique(b.out.Ignored, Ignored.Compare)
	return b.out
}

func countFamilies(addrs []netip.Addr) (out PerFamily) {
	for _, addr := range addrs {
		if addr.Is4() {
			out.IPv4++
		} else {
			out.IPv6++
		}
	}
	return out
}

func clusterIPs(service *corev1.Service) []string {
	if len(service.Spec.ClusterIPs) > 0 {
		return service.Spec.ClusterIPs
	}
	if service.Spec.ClusterIP != "" {
		return []string{service.Spec.ClusterIP}
	}
	return nil
}

// addPort adds the frontends of one Service port for the family of vip: the virtual IP, and the
// external addresses of the same family.
func (b *builder) addPort(port *corev1.ServicePort, vip netip.Addr) {
	protocol := protocolNumber(port.Protocol)
	if protocol == 0 || port.Port < 1 || port.Port > 65535 {
		return
	}
	b.candidates = b.computeCandidates(b.candidates[:0], port.Name, protocol, vip.Is4())
	candidates := b.candidates
	chosen := computeChoice(candidates, b.node)
	if protocol == UDP {
		chosen.serving = pick(candidates, func(c *candidate) bool { return c.serving })
	}
	chosen.cluster, chosen.local = b.limit(chosen.cluster), b.limit(chosen.local)
	for i := range candidates {
		if candidates[i].local {
			b.out.LocalEndpoints = append(b.out.LocalEndpoints, candidates[i].Addr)
		}
		if candidates[i].local && candidates[i].ready {
			b.localReady = append(b.localReady, candidates[i].Addr)
		}
	}

	first := len(b.out.Frontends)
	internal := b.frontend(Key{Addr: vip, Port: uint16(port.Port), Protocol: protocol}, chosen)
	if policy := b.service.Spec.InternalTrafficPolicy; policy != nil && *policy == corev1.ServiceInternalTrafficPolicyLocal {
		internal.restrictToNode(chosen)
		internal.AffinityShare = ShareInternal
	}
	b.out.Frontends = append(b.out.Frontends, internal)

	for _, addr := range b.loadBalancerAddresses(vip.Is4()) {
		b.addExternal(Key{Addr: addr, Port: uint16(port.Port), Protocol: protocol}, chosen)
		b.out.Frontends[len(b.out.Frontends)-1].SourceRanges = b.sourceRanges(addr)
	}
	for _, addr := range b.externalIPs(vip.Is4()) {
		b.addExternal(Key{Addr: addr, Port: uint16(port.Port), Protocol: protocol}, chosen)
	}
	if port.NodePort > 0 && port.NodePort <= 65535 {
		for _, addr := range b.node.NodePortAddresses {
			if addr.Is4() == vip.Is4() && !addr.IsLoopback() {
				b.addExternal(Key{Addr: addr, Port: uint16(port.NodePort), Protocol: protocol}, chosen)
			}
		}
	}
	for i := range b.out.Frontends[first:] {
		f := &b.out.Frontends[first+i]
		f.PortName, f.ServicePort = port.Name, uint16(port.Port)
	}
}

// frontend returns a frontend that may use every chosen endpoint.
func (b *builder) frontend(key Key, chosen choice) Frontend {
	f := Frontend{Key: key, Endpoints: chosen.cluster, Serving: chosen.serving}
	if b.service.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		f.AffinitySeconds = corev1.DefaultClientIPServiceAffinitySeconds
		if c := b.service.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			f.AffinitySeconds = *c.ClientIP.TimeoutSeconds
		}
	}
	return f
}

// restrictToNode applies a Local traffic policy.
func (f *Frontend) restrictToNode(chosen choice) {
	f.Endpoints = chosen.local
	if chosen.any {
		f.Empty = Drop
	}
}

func (b *builder) addExternal(key Key, chosen choice) {
	f := b.frontend(key, chosen)
	f.Masquerade = MasqueradeAlways
	if b.service.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		f.restrictToNode(chosen)
		f.ShortCircuit, f.AffinityShare = true, ShareExternal
		f.ClusterEndpoints = chosen.cluster
		f.Masquerade = MasqueradeNode
	}
	b.out.Frontends = append(b.out.Frontends, f)
}

// loadBalancerAddresses returns the ingress addresses the node answers for: those of ipMode Proxy
// are answered by the load balancer itself.
func (b *builder) loadBalancerAddresses(ipv4 bool) []netip.Addr {
	if b.service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	var out []netip.Addr
	for _, ingress := range b.service.Status.LoadBalancer.Ingress {
		if ingress.IPMode != nil && *ingress.IPMode == corev1.LoadBalancerIPModeProxy {
			continue
		}
		addr, err := netip.ParseAddr(ingress.IP)
		if err == nil && addr.Is4() == ipv4 && routable(addr) {
			out = append(out, addr)
		}
	}
	return out
}

func (b *builder) externalIPs(ipv4 bool) []netip.Addr {
	if !b.node.ExternalIPs {
		return nil
	}
	var out []netip.Addr
	for _, text := range b.service.Spec.ExternalIPs {
		if addr, err := netip.ParseAddr(text); err == nil && addr.Is4() == ipv4 && routable(addr) {
			out = append(out, addr)
		}
	}
	return out
}

// sourceRanges returns the clients that spec.loadBalancerSourceRanges lets through to an address, nil
// for everybody. As in kube-proxy, a list without a range of the address's family does not restrict
// that family, and a range that holds the node also admits the address itself, which is what the node
// may use as its source when it connects there.
func (b *builder) sourceRanges(addr netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range b.service.Spec.LoadBalancerSourceRanges {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || prefix.Addr().Is4() != addr.Is4() {
			continue
		}
		if prefix.Bits() == 0 {
			return nil
		}
		out = append(out, prefix.Masked())
		if slices.ContainsFunc(b.node.NodePortAddresses, prefix.Contains) {
			out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return out
}

// limit leaves out the endpoints that are more than a frontend may have.
func (b *builder) limit(sorted []Endpoint) []Endpoint {
	kept := min(len(sorted), MaxEndpoints)
	for _, ep := range sorted[kept:] {
		b.ignore(ep.Addr.String(), OverLimit)
	}
	return sorted[:kept]
}

func (b *builder) ignore(address string, reason Reason) {
	b.out.Ignored = append(b.out.Ignored, Ignored{Address: address, Reason: reason})
}

func sortedUnique[T comparable](list []T, compare func(T, T) int) []T {
	slices.SortFunc(list, compare)
	return slices.Compact(list)
}
