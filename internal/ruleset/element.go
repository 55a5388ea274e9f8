package ruleset

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// Map identifies one of the maps and sets that every table has.
type Map uint8

// The maps and sets, in the order in which a transaction writes them. A packet to a frontend goes
// through the first-hop map Frontends; the others are consulted only where an element leads there.
const (
	// Frontends: address . protocol . port -> first hop of a new connection.
	Frontends Map = iota
	// CheckedFrontends: frontend -> the hop after its source ranges let a client pass.
	CheckedFrontends
	// AffinityFrontends: frontend -> the hop after session affinity found no endpoint.
	AffinityFrontends
	// InsideFrontends: frontend -> where pods and the node go, who escape policy Local.
	InsideFrontends
	// OutsideFrontends: frontend -> where everybody else goes under policy Local.
	OutsideFrontends
	// Endpoints: frontend . slot -> endpoint.
	Endpoints
	// InsideEndpoints: frontend . slot -> endpoint, for those who came by InsideFrontends.
	InsideEndpoints
	// AffinityLearners: frontend -> the chain that remembers the client's endpoint.
	AffinityLearners
	// AffinityShares: frontend -> the number by which it shares its clients' endpoints with others.
	AffinityShares
	// MasqueradeFrontends: frontends whose connections are all masqueraded.
	MasqueradeFrontends
	// MasqueradeNodeFrontends: frontends whose connections from the node itself are masqueraded.
	MasqueradeNodeFrontends
	// VirtualIPs: addresses of which an unanswered port is refused.
	VirtualIPs
	// LocalEndpoints: addresses on this node that may connect to themselves through a frontend.
	LocalEndpoints
	// PodSources: ranges of pod addresses, whose connections escape policy Local.
	PodSources
	// SourceRanges: frontend . range -> nothing; the clients a frontend with source ranges lets pass.
	SourceRanges
	// ServiceRanges: ranges of virtual IPs, of which an address that no Service has is not forwarded.
	ServiceRanges
	// InsideSources: ranges whose connections to a virtual IP keep their source address.
	InsideSources
	// Connections: frontend . endpoint, with a counter of the connections made; only where connections
	// are counted.
	Connections
	// NumMaps is the number of maps and sets.
	NumMaps
)

var mapNames = [NumMaps]string{
	Frontends:               "frontends",
	CheckedFrontends:        "checked-frontends",
	AffinityFrontends:       "affinity-frontends",
	InsideFrontends:         "inside-frontends",
	OutsideFrontends:        "outside-frontends",
	Endpoints:               "endpoints",
	InsideEndpoints:         "inside-endpoints",
	AffinityLearners:        "affinity-learners",
	AffinityShares:          "affinity-shares",
	MasqueradeFrontends:     "masquerade-frontends",
	MasqueradeNodeFrontends: "masquerade-node-frontends",
	VirtualIPs:              "virtual-ips",
	LocalEndpoints:          "local-endpoints",
	PodSources:              "pod-sources",
	SourceRanges:            "source-ranges",
	ServiceRanges:           "service-ranges",
	InsideSources:           "inside-sources",
	Connections:             "connections",
}

// String is the name of the map or set in the tables.
func (m Map) String() string {
	if m < NumMaps {
		return mapNames[m]
	}
	return fmt.Sprintf("map %d", uint8(m))
}

// ChainKind is what a chain does. Chains that exist once per number carry it in Chain.N.
type ChainKind uint8

// The chains an element can lead to.
const (
	NoChain ChainKind = iota
	// Pick: choose one of N slots of Endpoints; N is a power of two.
	Pick
	// InsidePick: choose one of N slots of InsideEndpoints.
	InsidePick
	// CheckSources: drop clients outside the frontend's source ranges, others go on with CheckedFrontends.
	CheckSources
	// Affinity: take the endpoint the client had before, or go on with AffinityFrontends.
	Affinity
	// Local: split those inside the cluster from those outside, for policy Local.
	Local
	// Rejecting: refuse the connection.
	Rejecting
	// Dropping: ignore the connection.
	Dropping
	// Learn: remember the client's endpoint for N seconds.
	Learn
	// Share is no chain but the number that AffinityShares holds.
	Share
)

// Chain is the chain an element leads to.
type Chain struct {
	Kind ChainKind
	// N is the number of slots of Pick and InsidePick, the seconds of Learn, the number of Share,
	// otherwise 0.
	N uint32
}

var chainNames = map[ChainKind]string{
	Pick: "pick", InsidePick: "inside-pick", CheckSources: "source-ranges", Affinity: "affinity", Local: "local-policy",
	Rejecting: "rejecting", Dropping: "dropping", Learn: "learn",
	Share: "share",
}

// Name is the chain's name in the table, such as pick-16 or rejecting.
func (c Chain) Name() string {
	switch c.Kind {
	case Pick, InsidePick, Share:
		return fmt.Sprintf("%s-%d", chainNames[c.Kind], c.N)
	case Learn:
		return fmt.Sprintf("learn-%ds", c.N)
	}
	return chainNames[c.Kind]
}

// Element is an element of one of the maps. Only the fields its map has are set.
type Element struct {
	Map Map `json:"map"`
	// Key is the frontend; sets of addresses use only its address.
	Key proxy.Key `json:"frontend,omitzero"`
	// Slot is the slot of an endpoint.
	Slot uint32 `json:"slot,omitzero"`
	// Endpoint is the data of the endpoint maps, and part of the key of Connections.
	Endpoint proxy.Endpoint `json:"endpoint,omitzero"`
	// Chain is the data of the frontend maps.
	Chain Chain `json:"chain,omitzero"`
	// Prefix is the element of the sets of ranges.
	Prefix netip.Prefix `json:"range,omitzero"`
}

func (e Element) String() string {
	switch e.Map {
	case Endpoints, InsideEndpoints:
		return fmt.Sprintf("%s: %s slot %d -> %s", e.Map, e.Key, e.Slot, e.Endpoint)
	case PodSources, InsideSources, ServiceRanges:
		return fmt.Sprintf("%s: %s", e.Map, e.Prefix)
	case SourceRanges:
		return fmt.Sprintf("%s: %s from %s", e.Map, e.Key, e.Prefix)
	case VirtualIPs, LocalEndpoints:
		return fmt.Sprintf("%s: %s", e.Map, e.Key.Addr)
	case Connections:
		return fmt.Sprintf("%s: %s to %s", e.Map, e.Key, e.Endpoint)
	case MasqueradeFrontends, MasqueradeNodeFrontends:
		return fmt.Sprintf("%s: %s", e.Map, e.Key)
	}
	return fmt.Sprintf("%s: %s -> %s", e.Map, e.Key, e.Chain.Name())
}

// Compare orders elements by map, key and slot.
func (e Element) Compare(other Element) int {
	if e.Map == Connections && other.Map == Connections {
		return cmp.Or(e.Key.Compare(other.Key), e.Endpoint.Compare(other.Endpoint))
	}
	return cmp.Or(cmp.Compare(e.Map, other.Map), e.Key.Compare(other.Key), cmp.Compare(e.Slot, other.Slot),
		e.Prefix.Addr().Compare(other.Prefix.Addr()), cmp.Compare(e.Prefix.Bits(), other.Prefix.Bits()))
}

// IPv4 says which family's table holds the element.
func (e Element) IPv4() bool {
	if e.Prefix.IsValid() {
		return e.Prefix.Addr().Is4()
	}
	return e.Key.Addr.Is4()
}

// Change is what one transaction writes: Delete before Add, new chains first, old chains last. An
// element whose data changes is in both lists.
type Change struct {
	AddChains    []FamilyChain
	Delete       []Element
	Add          []Element
	DeleteChains []FamilyChain
	// Forget are the clients to take out of session affinity once the rest is committed.
	Forget []Forget
	// Remember are the clients that session affinity knows from the tables which these replace.
	Remember []Remembered
	// UDP are the UDP frontends whose flows may lead to an endpoint that is no longer theirs, or
	// past them, once the rest is committed.
	UDP []Serving
}

// Forget names clients in the affinity maps by where they were sent.
type Forget struct {
	IPv4 bool
	// Share is the number in AffinityShares of the frontends they came by.
	Share uint32
	// Endpoint that left; the zero value stands for every endpoint of the frontends.
	Endpoint proxy.Endpoint
}

// FamilyChain is a chain of one family's table.
type FamilyChain struct {
	IPv4  bool
	Chain Chain
}

// Empty says whether there is nothing to write.
func (c *Change) Empty() bool {
	return len(c.Add) == 0 && len(c.Delete) == 0 && len(c.AddChains) == 0 && len(c.DeleteChains) == 0 &&
		len(c.Forget) == 0 && len(c.UDP) == 0
}
