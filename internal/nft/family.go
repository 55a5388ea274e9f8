package nft

import "golang.org/x/sys/unix"

// tableName is the name of our table in both families.
const tableName = "servicegroup"

// family is what differs between the tables for IPv4 and IPv6.
type family struct {
	proto byte // NFPROTO_*
	// words is the length of an address in 32-bit words.
	words int
	// saddr and daddr are the offsets of the addresses in the network header, in bytes.
	saddr, daddr uint32
	// ctSource and ctDestination are the conntrack keys of the addresses. The keys without a family
	// (NFT_CT_SRC, NFT_CT_DST) are what nft before 0.8.4 wrote.
	ctSource, ctDestination uint32
	// addressType is nft's number for the address type.
	addressType uint32
	// protocolDescription and daddrField are nft's numbers for "ip daddr" in the user data of a set.
	protocolDescription, daddrField uint32
	// unreachable is the ICMP code for port unreachable.
	unreachable uint8
}

var (
	ipv4 = family{
		proto: unix.NFPROTO_IPV4, words: 1, saddr: 12, daddr: 16,
		ctSource: unix.NFT_CT_SRC_IP, ctDestination: unix.NFT_CT_DST_IP,
		addressType: typeIPv4, protocolDescription: 12, daddrField: 12, unreachable: 3,
	}
	ipv6 = family{
		proto: unix.NFPROTO_IPV6, words: 4, saddr: 8, daddr: 24,
		ctSource: unix.NFT_CT_SRC_IP6, ctDestination: unix.NFT_CT_DST_IP6,
		addressType: typeIPv6, protocolDescription: 13, daddrField: 9, unreachable: 4,
	}
)

// addressLength is the length of an address in bytes.
func (f *family) addressLength() int { return f.words * 4 }

func familyOf(isIPv4 bool) *family {
	if isIPv4 {
		return &ipv4
	}
	return &ipv6
}
