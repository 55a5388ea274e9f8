package node

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// computeRanges returns the address ranges for the options. Where pods are not told by their addresses,
// or it is not known which these are, no source is masqueraded on its way to a virtual IP for being
// outside, unless the interface says so.
func computeRanges(o *Options, object *corev1.Node, services []netip.Prefix) ruleset.Ranges {
	ranges := ruleset.Ranges{}
	if o.Mode == ModeAll {
		// Without every Service there is no telling which addresses nobody has.
		ranges.Services = services
	}
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
