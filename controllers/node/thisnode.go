package node

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// computeNode reads from a Node object what the proxy model needs: the zone, and as addresses that
// answer on NodePorts the first InternalIP of each family, or the first ExternalIP where there is no
// InternalIP. A nil object, which the agent may meet before the kubelet has registered the node, has
// neither.
func computeNode(name string, object *corev1.Node) proxy.Node {
	node := proxy.Node{Name: name}
	if object == nil {
		return node
	}
	node.Zone = object.Labels[corev1.LabelTopologyZone]
	for _, ipv4 := range []bool{true, false} {
		for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
			if addr, ok := firstAddress(object, kind, ipv4); ok {
				node.NodePortAddresses = append(node.NodePortAddresses, addr)
				break
			}
		}
	}
	return node
}

func firstAddress(object *corev1.Node, kind corev1.NodeAddressType, ipv4 bool) (netip.Addr, bool) {
	for _, address := range object.Status.Addresses {
		if address.Type != kind {
			continue
		}
		if addr, err := netip.ParseAddr(address.Address); err == nil && addr.Is4() == ipv4 {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// computeRanges returns the address ranges for the options. Where pods are not told by their addresses,
// or it is not known which these are, no source is masqueraded on its way to a virtual IP for being
// outside, unless the interface says so.
func computeRanges(o *Options, object *corev1.Node, services []netip.Prefix) ruleset.Ranges {
	ranges := ruleset.Ranges{Services: services}
	slices.SortFunc(ranges.Services, func(x, y netip.Prefix) int { return x.Addr().Compare(y.Addr()) })
	switch o.DetectLocal {
	case DetectClusterCIDR:
		ranges.Pods = o.ClusterCIDRs
	case DetectNodeCIDR:
		ranges.Pods = podCIDRs(object)
	case DetectBridge, DetectInterfacePrefix:
		return ranges
	}
	switch {
	case o.MasqueradeAll:
	case len(ranges.Pods) == 0:
		ranges.Inside = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	default:
		ranges.Inside = ranges.Pods
	}
	return ranges
}

func podCIDRs(object *corev1.Node) []netip.Prefix {
	if object == nil {
		return nil
	}
	var out []netip.Prefix
	for _, text := range object.Spec.PodCIDRs {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			out = append(out, prefix.Masked())
		}
	}
	return out
}
