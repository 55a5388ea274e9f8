package proxy

import (
	"cmp"
	"net/netip"
	"slices"
)

// Ignored is an endpoint address that is left out, while the others are served.
type Ignored struct {
	// Address is what the EndpointSlice says.
	Address string
	Reason  Reason
}

// Compare orders by reason and address.
func (i Ignored) Compare(other Ignored) int {
	return cmp.Or(cmp.Compare(i.Reason, other.Reason), cmp.Compare(i.Address, other.Address))
}

func (i Ignored) String() string { return i.Address + " (" + string(i.Reason) + ")" }

// Reason is why an endpoint address is left out.
type Reason string

const (
	// NoPodAddress is one through which traffic could leave the cluster's pods: loopback, link-local,
	// multicast, broadcast, unspecified, or no address at all.
	NoPodAddress Reason = "address"
	// DuplicateAddress is one that a slice lists twice. In two slices it is no mistake: a pod may be in
	// several groups, or on its way from one slice to another.
	DuplicateAddress Reason = "duplicate"
	// OtherFamily is an address of another family than its slice says.
	OtherFamily Reason = "family"
	// OverLimit is one of a frontend that has MaxEndpoints already.
	OverLimit Reason = "limit"
	// NoPort is an address whose slice gives the Service port no number from 1 to 65535.
	NoPort Reason = "port"
	// NotOurService is an address in a slice that is labelled for this proxy, of a Service that is not.
	NotOurService Reason = "service"
	// VirtualIP is the address of a Service. The kernel translates a connection once, so none there
	// would be answered.
	VirtualIP Reason = "virtual-ip"
)

// Reasons returns every reason there is.
func Reasons() []Reason {
	return []Reason{NoPodAddress, DuplicateAddress, OtherFamily, OverLimit, NoPort, NotOurService, VirtualIP}
}

// computeReason says why a connection must not be sent to what a slice of a family lists, "" if it may.
func computeReason(addr netip.Addr, port uint16, ipv4 bool, node *Node) Reason {
	switch {
	case !addr.IsValid():
		return NoPodAddress
	case addr.Is4() != ipv4:
		return OtherFamily
	case !routable(addr):
		return NoPodAddress
	case slices.ContainsFunc(node.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(addr) }),
		node.IsVirtualIP != nil && node.IsVirtualIP(addr):
		return VirtualIP
	case port == 0:
		return NoPort
	}
	return ""
}

// routable says whether traffic to an endpoint address stays with pods. Anybody who may write
// EndpointSlices could otherwise reach the node's own services (CVE-2021-25737).
func routable(addr netip.Addr) bool {
	return !addr.IsLoopback() && !addr.IsLinkLocalUnicast() && !addr.IsMulticast() && !addr.IsUnspecified() &&
		!addr.Is4In6() && addr.Zone() == "" && addr != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
