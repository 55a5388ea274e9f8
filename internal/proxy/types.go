package proxy

import (
	"cmp"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// Protocol is an IANA protocol number.
type Protocol uint8

// The protocols a Service port may have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// protocolNumber returns the IANA number of a Service protocol, 0 for one that is unknown. An empty
// protocol is TCP, as in the API.
func protocolNumber(protocol corev1.Protocol) Protocol {
	switch protocol {
	case corev1.ProtocolTCP, "":
		return TCP
	case corev1.ProtocolUDP:
		return UDP
	case corev1.ProtocolSCTP:
		return SCTP
	}
	return 0
}

func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// MarshalText writes the name that String gives.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (p *Protocol) UnmarshalText(text []byte) error {
	for _, known := range []Protocol{TCP, UDP, SCTP} {
		if string(text) == known.String() {
			*p = known
			return nil
		}
	}
	var number uint8
	if _, err := fmt.Sscanf(string(text), "protocol %d", &number); err != nil {
		return fmt.Errorf("protocol %q is not known: it is tcp, udp or sctp", text)
	}
	*p = Protocol(number)
	return nil
}

// Key identifies a frontend: the address, protocol and port a client connects to.
type Key struct {
	Addr     netip.Addr `json:"address"`
	Port     uint16     `json:"port,omitzero"`
	Protocol Protocol   `json:"protocol,omitzero"`
}

func (k Key) String() string {
	return fmt.Sprintf("%s %s", netip.AddrPortFrom(k.Addr, k.Port), k.Protocol)
}

// Compare orders keys by address, port and protocol.
func (k Key) Compare(other Key) int {
	return cmp.Or(k.Addr.Compare(other.Addr), cmp.Compare(k.Port, other.Port), cmp.Compare(k.Protocol, other.Protocol))
}

// Endpoint is where a connection is sent: the address and port of a pod.
type Endpoint struct {
	Addr netip.Addr `json:"address"`
	Port uint16     `json:"port"`
}

func (e Endpoint) String() string { return netip.AddrPortFrom(e.Addr, e.Port).String() }

// Compare orders endpoints by address and port.
func (e Endpoint) Compare(other Endpoint) int {
	return cmp.Or(e.Addr.Compare(other.Addr), cmp.Compare(e.Port, other.Port))
}

// Refusal is how a frontend without endpoints answers.
type Refusal uint8

const (
	// Reject answers TCP with a reset and everything else with ICMP port unreachable: no endpoint
	// exists anywhere.
	Reject Refusal = iota
	// Drop answers nothing: endpoints exist, but the traffic policy is Local and none is here. A
	// load balancer then takes the node out by its health check.
	Drop
)

// Masquerade is whose connections through a frontend get the node's address as source.
// Connections of an endpoint to itself are always masqueraded.
type Masquerade uint8

const (
	// MasqueradeOutside: sources outside the cluster's pod ranges (virtual IPs).
	MasqueradeOutside Masquerade = iota
	// MasqueradeAlways: every source, since the endpoint may be on another node and must answer
	// through this one (external addresses under policy Cluster).
	MasqueradeAlways
	// MasqueradeNode: the node itself only; others keep their address (policy Local).
	MasqueradeNode
)

// AffinityShare is what the frontends of a Service port choose from.
type AffinityShare uint8

const (
	// ShareCluster: every endpoint, on the virtual IP and, under policy Cluster, on external addresses.
	ShareCluster AffinityShare = iota
	// ShareInternal: the endpoints of this node, under internalTrafficPolicy Local.
	ShareInternal
	// ShareExternal: the endpoints of this node for clients outside, under externalTrafficPolicy Local.
	ShareExternal
)

// MaxEndpoints is how many endpoints a frontend may have; more are left out.
const MaxEndpoints = 1 << MaxEndpointsLog2

// MaxEndpointsLog2 is the binary logarithm of MaxEndpoints.
const MaxEndpointsLog2 = 14

// Frontend is one address, protocol and port that the node answers for.
type Frontend struct {
	Key

	// Endpoints are the choices for a new connection, sorted, without duplicates.
	Endpoints []Endpoint

	// ShortCircuit says that pods and the node itself choose among ClusterEndpoints instead: the
	// frontend is an external address and its policy Local must not hide endpoints from inside.
	ShortCircuit bool

	// ClusterEndpoints are the choices behind ShortCircuit, sorted, without duplicates.
	ClusterEndpoints []Endpoint

	// Serving are the endpoints of a UDP port that serve, terminating ones too, whatever the policies and hints
	// say, sorted: flows to them go on.
	Serving []Endpoint

	// SourceRanges are the clients that are let through; others get no answer. Nil is everybody.
	SourceRanges []netip.Prefix

	// Empty is the answer while Endpoints is empty.
	Empty Refusal

	// AffinitySeconds is how long after its last new connection a client keeps its endpoint; 0
	// without session affinity.
	AffinitySeconds int32

	// AffinityShare is equal in those frontends of a Service port that choose from the same endpoints:
	// a client has the same endpoint through all of them.
	AffinityShare AffinityShare

	Masquerade Masquerade

	// PortName and ServicePort are the name and the number of the Service port behind the frontend.
	PortName    string
	ServicePort uint16
}

// PerFamily are numbers of one kind for each address family.
type PerFamily struct{ IPv4, IPv6 int }

// Service is what the node serves for one Service.
type Service struct {
	// Frontends are sorted by Key, without duplicates.
	Frontends []Frontend

	// VirtualIPs are the addresses that belong to this Service alone: a port of theirs that no
	// frontend answers is refused.
	VirtualIPs []netip.Addr

	// LocalEndpoints are the addresses of this Service's endpoints on this node, which may connect
	// to themselves through a frontend.
	LocalEndpoints []netip.Addr

	// HealthCheckNodePort is where the load balancer asks whether this node has ready endpoints; 0
	// if it does not ask.
	HealthCheckNodePort int32

	// LocalReady is how many pods of this node are ready endpoints, which the load balancer's health
	// check asks for.
	LocalReady PerFamily

	// Created is when the Service was created, in seconds since 1970.
	Created int64

	// Ignored are the endpoint addresses that were left out, sorted, once for each reason.
	Ignored []Ignored
}

// Node is what is known of the node the proxy runs on.
type Node struct {
	Name string `json:"name"`
	Zone string `json:"zone,omitempty"`
	// NodePortAddresses are the node's addresses that answer on NodePorts.
	NodePortAddresses []netip.Addr `json:"nodePortAddresses,omitempty"`
	// ExternalIPs says whether spec.externalIPs are served. Whoever may write Services can take over
	// any address with them (CVE-2020-8554), so this is for clusters whose proxy does so already.
	ExternalIPs bool `json:"externalIPs,omitempty"`
	// ServiceCIDRs are the ranges of all virtual IPs, as far as they are known.
	ServiceCIDRs []netip.Prefix `json:"serviceCIDRs,omitempty"`
	// IsVirtualIP says of addresses outside ServiceCIDRs whether they are some Service's; nil: of none.
	IsVirtualIP func(netip.Addr) bool `json:"-"`
}
