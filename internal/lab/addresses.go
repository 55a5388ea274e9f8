package lab

import (
	"fmt"
	"net"
	"net/netip"
)

// The lab's address plan. Node n is 192.168.100.n and fd00:64::n, its pods are in 10.244.n.0/24 and
// fd00:10:244:n::/64, and outside clients count up from 192.168.100.201.
const (
	// ServiceCIDRv4 and ServiceCIDRv6 are the ranges of ClusterIPs.
	ServiceCIDRv4 = "10.96.0.0/12"
	ServiceCIDRv6 = "fd00:10:96::/112"
	// ClusterCIDRv4 and ClusterCIDRv6 are the ranges of all pods.
	ClusterCIDRv4 = "10.244.0.0/16"
	ClusterCIDRv6 = "fd00:10:244::/48"

	maxNodes     = 200 // above are the clients' addresses
	firstClient  = maxNodes + 1
	fabricNumber = 254
	maxPodNumber = 254 // of a node; 1 is left out, as many networks keep it for the gateway
)

// fabricAddresses are the addresses of number n on the fabric.
func fabricAddresses(n int) (v4, v6 netip.Addr) {
	return netip.MustParseAddr(fmt.Sprintf("192.168.100.%d", n)),
		netip.MustParseAddr(fmt.Sprintf("fd00:64::%x", n))
}

func podCIDRs(node int) (v4, v6 netip.Prefix) {
	return netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", node)),
		netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%x::/64", node))
}

func podAddresses(node, pod int) (v4, v6 netip.Addr) {
	return netip.MustParseAddr(fmt.Sprintf("10.244.%d.%d", node, pod)),
		netip.MustParseAddr(fmt.Sprintf("fd00:10:244:%x::%x", node, pod))
}

// fabricPrefix is the address with the fabric's mask.
func fabricPrefix(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(a, 24)
	}
	return netip.PrefixFrom(a, 64)
}

// single is the prefix of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// everything is the default route's destination in the family of a.
func everything(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// hardwareAddress is a MAC address made from an IPv4 address, and so unique in the lab; side tells
// the two ends of a veth pair apart.
func hardwareAddress(side byte, a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x0a, side, b[0], b[1], b[2], b[3]}
}
