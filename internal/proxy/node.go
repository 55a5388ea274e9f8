package proxy

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// NodeOf reads from a Node object what the proxy model needs: the zone, and as addresses that
// answer on NodePorts the first InternalIP of each family, or the first ExternalIP where there is no
// InternalIP. A nil object, which the agent may meet before the kubelet has registered the node, has
// neither.
func NodeOf(name string, object *corev1.Node) Node {
	node := Node{Name: name}
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
