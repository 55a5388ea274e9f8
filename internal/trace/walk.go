package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// Packet is the first packet of a connection, as it arrives on a node.
type Packet struct {
	Source netip.Addr
	To     proxy.Key
	// FromNode says that the node itself sends it.
	FromNode bool
	// FromLocalPod says that a pod of this node sends it, so that it comes in by the pods' interface.
	FromLocalPod bool
}

// Verdict is what becomes of a connection.
type Verdict string

const (
	// Sent: it goes to one of the endpoints.
	Sent Verdict = "sent"
	// Rejected: it is refused, so that the client knows at once.
	Rejected Verdict = "rejected"
	// Dropped: the client gets no answer.
	Dropped Verdict = "dropped"
	// Untouched: the tables have nothing to say to it.
	Untouched Verdict = "untouched"
)

// Step is one check that the packet meets.
type Step struct {
	Check   string `json:"check"`
	Finding string `json:"finding"`
}

// Choice is an endpoint that the connection may reach.
type Choice struct {
	Endpoint proxy.Endpoint `json:"endpoint"`
	// Share is how likely it is, from 0 to 1.
	Share float64 `json:"share"`
	// Masqueraded is why the endpoint sees the node's address in place of the client's; empty if
	// it sees the client's.
	Masqueraded string `json:"masqueraded,omitempty"`
}

// Way is the way of a packet.
type Way struct {
	Steps   []Step  `json:"steps"`
	Verdict Verdict `json:"verdict"`
	// Choices are sorted by endpoint.
	Choices []Choice `json:"choices,omitempty"`
	// AffinitySeconds is how long the client keeps its endpoint; 0 if it does not.
	AffinitySeconds uint32 `json:"affinitySeconds,omitempty"`
	// Remembered is what decided for the only choice, where session affinity did.
	Remembered *ruleset.Remembered `json:"remembered,omitempty"`
}

// walker is one packet on its way.
type walker struct {
	*index
	tables Tables
	p      Packet
	way    Way
}

// Walk follows a packet through tables.
func Walk(tables Tables, p Packet) Way {
	w := &walker{index: newIndex(tables.Elements), tables: tables, p: p}
	chain, found := w.chains[ruleset.Frontends][p.To]
	if !found {
		w.refuse()
		return w.way
	}
	w.note("address", "%s is a frontend", p.To)
	if chain.Kind != ruleset.CheckSources {
		w.note("source range", "none: everybody may come")
		w.stick(chain)
	} else {
		w.follow(chain)
	}
	return w.way
}

// stick goes where a chain leads, and says so if session affinity is not there.
func (w *walker) stick(chain ruleset.Chain) {
	if chain.Kind != ruleset.Affinity {
		w.note("affinity", "none: every connection is decided anew")
	}
	w.follow(chain)
}

func (w *walker) note(check, format string, args ...any) {
	w.way.Steps = append(w.way.Steps, Step{Check: check, Finding: fmt.Sprintf(format, args...)})
}

// refuse is what a packet meets that no frontend answers.
func (w *walker) refuse() {
	switch {
	case w.has(ruleset.VirtualIPs, proxy.Key{Addr: w.p.To.Addr}):
		w.note("address", "%s is a virtual IP, but port %d/%s is none of its frontends: refused", w.p.To.Addr, w.p.To.Port, w.p.To.Protocol)
		w.way.Verdict = Rejected
	case w.within(ruleset.ServiceRanges, w.p.To.Addr):
		w.note("address", "no Service has %s, which is in a range of virtual IPs: dropped", w.p.To.Addr)
		w.way.Verdict = Dropped
	default:
		w.note("address", "%s is no frontend here: the packet goes on as it is", w.p.To)
		w.way.Verdict = Untouched
	}
}

// follow goes where a chain leads.
func (w *walker) follow(chain ruleset.Chain) {
	switch chain.Kind {
	case ruleset.CheckSources:
		if ranges := w.sources[w.p.To]; !contains(ranges, w.p.Source) {
			w.note("source range", "%s is in none of %v: dropped", w.p.Source, ranges)
			w.way.Verdict = Dropped
			return
		}
		w.note("source range", "%s may come: it is in one of %v", w.p.Source, w.sources[w.p.To])
		w.next(ruleset.CheckedFrontends, w.stick)
	case ruleset.Affinity:
		w.way.AffinitySeconds = w.chains[ruleset.AffinityLearners][w.p.To].N
		w.recall()
	case ruleset.Local:
		w.policy()
	case ruleset.Pick:
		w.choose(ruleset.Endpoints)
	case ruleset.InsidePick:
		w.choose(ruleset.InsideEndpoints)
	case ruleset.Rejecting:
		w.note("endpoints", "there is none: refused")
		w.way.Verdict = Rejected
	case ruleset.Dropping:
		w.note("endpoints", "none that the traffic policy allows: dropped")
		w.way.Verdict = Dropped
	default:
		w.note("address", "leads to a chain that this version does not know")
		w.way.Verdict = Untouched
	}
}

// recall is chain affinity.
func (w *walker) recall() {
	seconds := w.way.AffinitySeconds
	entry := w.remembered()
	switch {
	case entry != nil:
		w.note("affinity", "ClientIP: remembered for %d s more: goes to %s", entry.Seconds, entry.Endpoint)
		w.way.Remembered = entry
		w.send([]Choice{{Endpoint: entry.Endpoint, Share: 1, Masqueraded: w.masqueraded(entry.Endpoint)}})
		return
	case w.tables.Remembered != nil:
		w.note("affinity", "ClientIP: not remembered: drawn anew, and then kept for %d s", seconds)
	default:
		w.note("affinity", "ClientIP: who connected within the last %d s keeps its endpoint; others go on", seconds)
	}
	w.next(ruleset.AffinityFrontends, w.follow)
}

// remembered is what decides for the packet's source, nil where nothing does.
func (w *walker) remembered() *ruleset.Remembered {
	share, found := w.shares[w.p.To]
	for _, entry := range w.tables.Remembered {
		if found && entry.Share == share && entry.Client == w.p.Source {
			return &entry
		}
	}
	return nil
}

// next goes on with the frontend's element in another map.
func (w *walker) next(m ruleset.Map, follow func(ruleset.Chain)) {
	chain, found := w.chains[m][w.p.To]
	if !found {
		w.note("address", "the frontend has no element in %s: the packet goes on as it is", m)
		w.way.Verdict = Untouched
		return
	}
	follow(chain)
}

// policy is externalTrafficPolicy Local.
func (w *walker) policy() {
	switch {
	case w.p.FromNode:
		w.note("policy", "externalTrafficPolicy Local does not bind the node itself: every endpoint may serve it")
	case w.isLocalPod(), w.within(ruleset.PodSources, w.p.Source):
		w.note("policy", "externalTrafficPolicy Local does not bind pods: every endpoint may serve them")
	default:
		w.note("policy", "externalTrafficPolicy Local: endpoints on this node only")
		w.next(ruleset.OutsideFrontends, w.follow)
		return
	}
	w.next(ruleset.InsideFrontends, w.follow)
}

// isLocalPod says whether the packet comes in by an interface by which pods are told.
func (w *walker) isLocalPod() bool { return w.tables.Site.PodInterface != "" && w.p.FromLocalPod }

// choose is a pick chain: every slot in use is as likely as the others, to within 0.7 % of itself.
func (w *walker) choose(m ruleset.Map) {
	slots := w.endpoints[m][w.p.To]
	if len(slots) == 0 {
		w.note("endpoints", "the frontend has no element in %s: the packet goes on as it is", m)
		w.way.Verdict = Untouched
		return
	}
	count := map[proxy.Endpoint]int{}
	for _, ep := range slots {
		count[ep]++
	}
	choices := make([]Choice, 0, len(count))
	for ep, n := range count {
		choices = append(choices, Choice{Endpoint: ep, Share: float64(n) / float64(len(slots)), Masqueraded: w.masqueraded(ep)})
	}
	slices.SortFunc(choices, func(a, b Choice) int { return a.Endpoint.Compare(b.Endpoint) })
	if len(count) == 1 {
		w.note("endpoints", "there is one")
	} else {
		w.note("endpoints", "one of %d is drawn", len(count))
	}
	w.send(choices)
}

// send is what follows once it is settled which endpoints it may be.
func (w *walker) send(choices []Choice) {
	w.note("masquerade", "%s", masqueradeFinding(choices))
	w.way.Choices, w.way.Verdict = choices, Sent
}

// masqueraded is chain masquerading for a connection to one endpoint.
func (w *walker) masqueraded(ep proxy.Endpoint) string {
	switch {
	case w.p.Source == ep.Addr && w.has(ruleset.LocalEndpoints, proxy.Key{Addr: ep.Addr}):
		return "the endpoint is the client itself (hairpin)"
	case w.has(ruleset.MasqueradeFrontends, w.p.To):
		return "the endpoint may be on another node and must answer through this one (externalTrafficPolicy Cluster)"
	case w.p.FromNode && w.has(ruleset.MasqueradeNodeFrontends, w.p.To):
		return "the node itself is the client"
	case !w.has(ruleset.VirtualIPs, proxy.Key{Addr: w.p.To.Addr}):
		return ""
	case w.tables.Site.MasqueradeAll:
		return "the agent masquerades every connection to a virtual IP (--masquerade-all)"
	case !w.isLocalPod() && !w.within(ruleset.InsideSources, w.p.Source):
		return "the client is outside the pods' ranges"
	}
	return ""
}

// masqueradeFinding says it for all choices together, or for those it is true of.
func masqueradeFinding(choices []Choice) string {
	seeing := map[string][]proxy.Endpoint{}
	var reasons []string
	for _, c := range choices {
		if seeing[c.Masqueraded] == nil {
			reasons = append(reasons, c.Masqueraded)
		}
		seeing[c.Masqueraded] = append(seeing[c.Masqueraded], c.Endpoint)
	}
	switch {
	case len(reasons) == 1 && reasons[0] == "":
		return "no: the endpoint sees the client's address"
	case len(reasons) == 1:
		return "yes: " + reasons[0]
	}
	only := ""
	if seeing[""] != nil {
		only = " only"
	}
	var parts []string
	for _, reason := range reasons {
		if reason != "" {
			parts = append(parts, fmt.Sprintf("for %s%s: %s", someOf(seeing[reason]), only, reason))
		}
	}
	return strings.Join(parts, "; ")
}

// someOf is one endpoint, or how many they are.
func someOf(endpoints []proxy.Endpoint) string {
	if len(endpoints) == 1 {
		return endpoints[0].String()
	}
	return fmt.Sprintf("%d endpoints", len(endpoints))
}
