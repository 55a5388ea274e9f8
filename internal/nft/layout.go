package nft

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// The constant layout of a table. Services and endpoints are elements of its maps and never rules,
// so a packet crosses the same few rules whatever the number of Services:
//
//	 new connection, from outside or a pod      from the node
//	                 |                               |
//	           prerouting (nat)                 output (nat)
//	                 \_____________  _______________/
//	                               \/
//	           daddr . proto . dport -> frontends
//	             |        |         |         |       \
//	             |        |         |   source-ranges   \
//	             |    affinity  local-policy  |     rejecting / dropping
//	             |    known client? to its    |
//	             |    endpoint; others go on  |
//	             |        |  inside? outside? |
//	             v        v         v         v
//	           pick-N, inside-pick-N: daddr . proto . dport . random slot -> endpoint, dnat
//	                               |
//	           forward, or the node's own socket by record-input (nat): counting, learning
//	                               |
//	           record-postrouting (nat): counting, learning
//	           postrouting (nat): masquerading
//	             hairpin, sources outside the cluster to a virtual IP, external addresses
//
// Packets to a virtual IP that no frontend answered arrive in refuse-forward and refuse-output,
// which reject them, and drop those to an address of a Service range that no Service has: without
// that they would leave by the default route.

// Layout is what of the constant layout a cluster may choose.
type Layout struct {
	// PodInterface is the name of the interface behind which this node's pods are, such as cni0, or
	// with a * at its end the beginning of the names of their interfaces, such as cali*. What comes
	// in there counts as coming from a pod. Empty where pods are told by their addresses.
	PodInterface string
	// MasqueradeAll says that pods are masqueraded on their way to a virtual IP all the same.
	MasqueradeAll bool
	// CountConnections says that each endpoint of a frontend counts its connections.
	CountConnections bool
}

// frontendKey is how a packet that has not been translated names its frontend.
var frontendKey = []field{daddr, l4proto, dport}

// originalFrontend is how a translated connection names the frontend it came to.
var originalFrontend = []field{originalAddress, l4proto, originalPort}

// connection is how a translated connection names its frontend and its endpoint.
var connection = []field{originalAddress, l4proto, originalPort, replyAddress, replyPort}

// chainSpec is a chain of the constant layout; hook is nil for one that others lead to.
type chainSpec struct {
	name  string
	hook  *hook
	rules [][]term
}

type hook struct {
	kind     string
	number   uint32
	priority int32
	// drops says that the chain does not accept what reaches its end, which is none of ours.
	drops bool
}

// Hook numbers and priorities (linux/netfilter.h, netfilter_ipv4.h).
const (
	hookPrerouting, hookInput, hookForward, hookOutput, hookPostrouting = 0, 1, 2, 3, 4

	accept = 1 // NF_ACCEPT

	priorityDNAT, prioritySNAT = -100, 100
	// The first chain that translates a source is the last one to see the connection, and of one priority the
	// chain that was registered last goes first: what must see every connection comes before anybody's.
	priorityRecord = prioritySNAT - 1
	// Before the filter chains of others, after destination NAT.
	priorityRefuse = -90
)

// connectionProtocols are the protocols with a port. nft reads "ct original proto-dst" only behind
// a match of one of them, so rules with it stand once for each.
var connectionProtocols = []proxy.Protocol{proxy.TCP, proxy.UDP, proxy.SCTP}

// draws is how often a pick chain draws a slot before it is content with the lower half. Slots are a
// power of two and more than half of them are in use, so a draw misses in less than half of the cases
// and the lower half never does; an endpoint's share is off by at most (1/2)^draws of itself, and 0.7 %
// for the worst number of up to 16 endpoints, which is 9.
const draws = 6

func (l Layout) chainSpecs() []chainSpec {
	chains := []chainSpec{
		{"prerouting", &hook{kind: "nat", number: hookPrerouting, priority: priorityDNAT}, [][]term{{vmap(ruleset.Frontends, frontendKey...)}}},
		{"output", &hook{kind: "nat", number: hookOutput, priority: priorityDNAT}, [][]term{{vmap(ruleset.Frontends, frontendKey...)}}},
		{"record-input", &hook{kind: "nat", number: hookInput, priority: priorityRecord}, l.ifCounting([][]term{{statusDNAT, jump("learning")}})},
		{"record-postrouting", &hook{kind: "nat", number: hookPostrouting, priority: priorityRecord}, l.ifCounting([][]term{{statusDNAT, jump("learning")}})},
		{"postrouting", &hook{kind: "nat", number: hookPostrouting, priority: prioritySNAT}, [][]term{{statusDNAT, jump("masquerading")}}},
		{"refuse-forward", &hook{kind: "filter", number: hookForward, priority: priorityRefuse}, [][]term{{stateNew, jump("refusing")}}},
		{"refuse-output", &hook{kind: "filter", number: hookOutput, priority: priorityRefuse}, [][]term{{stateNew, jump("refusing")}}},
		{"refusing", nil, [][]term{
			{in(ruleset.VirtualIPs, daddr), goTo("rejecting")},
			{in(ruleset.ServiceRanges, daddr), drop},
		}},

		{"source-ranges", nil, [][]term{
			{notIn(ruleset.SourceRanges, daddr, l4proto, dport, saddr), drop},
			{vmap(ruleset.CheckedFrontends, frontendKey...)},
		}},
		{"affinity", nil, slices.Concat(
			[][]term{{setPriority(ruleset.AffinityShares, frontendKey...)}},
			forEachProtocol(dnat(affinityMap, saddr, priority)), // nft asks for a protocol where a port is rewritten
			[][]term{{vmap(ruleset.AffinityFrontends, frontendKey...)}},
		)},
		{"local-policy", nil, l.ifFromPod([]term{vmap(ruleset.InsideFrontends, frontendKey...)}, [][]term{
			{in(ruleset.PodSources, saddr), vmap(ruleset.InsideFrontends, frontendKey...)},
			{fromNode, vmap(ruleset.InsideFrontends, frontendKey...)},
			{vmap(ruleset.OutsideFrontends, frontendKey...)},
		})},
		{"rejecting", nil, [][]term{{isProtocol(proxy.TCP), rejectReset}, {rejectUnreachable}}},
		{"dropping", nil, [][]term{{drop}}},

		{"learning", nil, forEachProtocol(vmap(ruleset.AffinityLearners, originalFrontend...))},
		// Virtual IPs come last: their set is the large one, and most clients are inside.
		{"masquerading", nil, slices.Concat(
			[][]term{{in(ruleset.LocalEndpoints, saddr, daddr), masquerade}},
			forEachProtocol(in(ruleset.MasqueradeFrontends, originalFrontend...), masquerade),
			forEachProtocol(in(ruleset.MasqueradeNodeFrontends, originalFrontend...), fromNode, masquerade),
			l.unlessFromPod([][]term{{notIn(ruleset.InsideSources, saddr), in(ruleset.VirtualIPs, originalAddress), masquerade}}),
		)},
	}
	if l.CountConnections {
		chains = append(chains, chainSpec{"counting", nil, forEachProtocol(in(ruleset.Connections, connection...))})
	}
	for i := range ruleset.MaxSlotsLog2 + 1 {
		slots := uint32(1) << i
		chains = append(chains, pickSpecs(ruleset.Pick, slots, ruleset.Endpoints)...)
		chains = append(chains, pickSpecs(ruleset.InsidePick, slots, ruleset.InsideEndpoints)...)
	}
	return chains
}

// ifCounting puts the counting of connections in front of other rules. It happens where the endpoint is
// settled, whichever way it was chosen.
func (l Layout) ifCounting(rest [][]term) [][]term {
	if !l.CountConnections {
		return rest
	}
	return append([][]term{{statusDNAT, jump("counting")}}, rest...)
}

// ifFromPod puts a rule for what comes in by the pods' interface in front of others.
func (l Layout) ifFromPod(terms []term, rest [][]term) [][]term {
	if l.PodInterface == "" {
		return rest
	}
	return append([][]term{append([]term{fromInterface(l.PodInterface)}, terms...)}, rest...)
}

// unlessFromPod puts a rule in front of others that lets pods off, unless everybody is masqueraded.
func (l Layout) unlessFromPod(rest [][]term) [][]term {
	if l.MasqueradeAll {
		return rest
	}
	return l.ifFromPod([]term{giveBack}, rest)
}

func forEachProtocol(terms ...term) [][]term {
	var rules [][]term
	for _, protocol := range connectionProtocols {
		rules = append(rules, append([]term{isProtocol(protocol)}, terms...))
	}
	return rules
}

// pickSpecs are the chains that choose one of so many slots. A slot that is not in use does not match,
// and the next rule draws again. The draws are jumps to one rule in a chain of its own: for each element
// that is added to a map the kernel goes through every rule that reads the map, so these are to be few.
func pickSpecs(kind ruleset.ChainKind, slots uint32, m ruleset.Map) []chainSpec {
	pick := chainSpec{name: ruleset.Chain{Kind: kind, N: slots}.Name()}
	draw := []term{dnat(m.String(), daddr, l4proto, dport, randomSlot(slots))}
	if slots <= 2 { // both slots are in use
		pick.rules = [][]term{draw}
		return []chainSpec{pick}
	}
	try := chainSpec{name: tryName(kind, slots), rules: [][]term{draw}}
	for range draws {
		pick.rules = append(pick.rules, []term{jump(try.name)})
	}
	pick.rules = append(pick.rules, []term{goTo(tryName(kind, slots/2))})
	return []chainSpec{try, pick}
}

// tryName is the name of the chain that draws once.
func tryName(kind ruleset.ChainKind, slots uint32) string {
	pick := ruleset.Chain{Kind: kind, N: slots}.Name()
	if slots <= 2 {
		return pick
	}
	return strings.Replace(pick, "pick", "try", 1)
}

// learnSpec is the chain that remembers a client's endpoint.
func learnSpec(chain ruleset.Chain) chainSpec {
	timeout := time.Duration(chain.N) * time.Second
	rules := forEachProtocol(setPriority(ruleset.AffinityShares, originalFrontend...), remember(timeout))
	return chainSpec{name: chain.Name(), rules: append(rules, []term{clearPriority})}
}

// addTable writes the constant layout of one family as the only content of its table. Deleting the
// one there may be needs a table, hence the first of the two additions.
func (m *message) addTable(f *family, l Layout) error {
	comment, err := l.comment(f)
	if err != nil {
		return err
	}
	m.table(f, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, nil)
	m.table(f, unix.NFT_MSG_DELTABLE, 0, nil)
	m.table(f, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, comment)
	return m.addLayout(f, l)
}

// addLayout writes the constant maps, sets, chains and rules.
func (m *message) addLayout(f *family, l Layout) error {
	for i, spec := range l.setSpecs(f) {
		m.addSet(f, &spec, uint32(i+1))
	}
	chains := l.chainSpecs()
	for i := range chains {
		m.addChain(f, &chains[i])
	}
	for i := range chains {
		if err := m.addRules(f, &chains[i]); err != nil {
			return err
		}
	}
	return nil
}

// comment is the user data of a table, which nft prints as its comment. It names the layout by
// a hash of everything constant, so that an agent knows whether a table it finds is one it would make.
func (l Layout) comment(f *family) ([]byte, error) {
	var layout message
	if err := layout.addLayout(f, l); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(layout.buf)
	text := fmt.Sprintf("ServiceGroup layout %x\x00", sum[:6])
	return tlv(0, []byte(text)), nil // NFTNL_UDATA_TABLE_COMMENT
}

// tableUserData is NFTA_TABLE_USERDATA (Linux 5.10), which golang.org/x/sys/unix lacks.
const tableUserData = 6

func (m *message) table(f *family, kind, flags uint16, userData []byte) {
	m.begin(kind, flags, f.proto)
	m.text(unix.NFTA_TABLE_NAME, tableName)
	if userData != nil {
		m.bytes(tableUserData, userData)
	}
	m.end()
}

func (m *message) addChain(f *family, spec *chainSpec) {
	m.begin(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, f.proto)
	m.text(unix.NFTA_CHAIN_TABLE, tableName)
	m.text(unix.NFTA_CHAIN_NAME, spec.name)
	if spec.hook != nil {
		nest := m.nest(unix.NFTA_CHAIN_HOOK)
		m.uint32(unix.NFTA_HOOK_HOOKNUM, spec.hook.number)
		m.uint32(unix.NFTA_HOOK_PRIORITY, uint32(spec.hook.priority))
		m.endNest(nest)
		m.text(unix.NFTA_CHAIN_TYPE, spec.hook.kind)
		m.uint32(unix.NFTA_CHAIN_POLICY, accept)
	}
	m.end()
}

func (m *message) addRules(f *family, spec *chainSpec) error {
	for _, terms := range spec.rules {
		if err := m.addRule(f, spec.name, terms); err != nil {
			return err
		}
	}
	return nil
}

func (m *message) deleteChain(f *family, name string) {
	// Kernels before 6.3 refuse to delete a chain that has rules: an empty rule selection first.
	m.begin(unix.NFT_MSG_DELRULE, 0, f.proto)
	m.text(unix.NFTA_RULE_TABLE, tableName)
	m.text(unix.NFTA_RULE_CHAIN, name)
	m.end()
	m.begin(unix.NFT_MSG_DELCHAIN, 0, f.proto)
	m.text(unix.NFTA_CHAIN_TABLE, tableName)
	m.text(unix.NFTA_CHAIN_NAME, name)
	m.end()
}
