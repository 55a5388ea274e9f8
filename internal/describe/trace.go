package describe

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
	"github.com/servicegroup-dev/servicegroup/internal/trace"
)

// Connection is what to trace.
type Connection struct {
	// Port is the name or number of a port, or a NodePort.
	Port string
	// Protocol is tcp, udp or sctp; empty for the one the port has.
	Protocol string
	// Address is where the client connects; the zero value for the usual one: the virtual IP for pods
	// and nodes, the NodePort or the load balancer's address for others.
	Address netip.Addr
	Client  Client
	// Node is where the connection arrives.
	Node string
}

// Trace is the way of a connection.
type Trace struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Port      string `json:"port"`
	// To is the address, and Entry what kind of address it is.
	To     proxy.Key  `json:"to"`
	Entry  string     `json:"entry"`
	Client Client     `json:"client"`
	Source netip.Addr `json:"source"`
	Node   string     `json:"node"`
	// Way is computed from the objects, as the agent does it.
	Way trace.Way `json:"way"`
	// Backends are the endpoints of the port, chosen or not.
	Backends []Backend `json:"backends,omitempty"`
	Kernel   Kernel    `json:"kernel"`
}

// Backend is an endpoint of the port.
type Backend struct {
	Endpoint    proxy.Endpoint `json:"endpoint"`
	Pod         string         `json:"pod,omitempty"`
	Group       string         `json:"group,omitempty"`
	Node        string         `json:"node,omitempty"`
	Share       float64        `json:"share"`
	Masqueraded string         `json:"masqueraded,omitempty"`
	// Why it is not chosen.
	Why string `json:"why,omitempty"`
}

// Kernel is the comparison with what the node's kernel holds.
type Kernel struct {
	// Agrees is nil where it is not known, which Unknown explains.
	Agrees  *bool  `json:"agrees,omitempty"`
	Unknown string `json:"unknown,omitempty"`
	// Effects are what it means for this connection.
	Effects []string `json:"effects,omitempty"`
	// Elements are those of the Service that differ.
	Elements trace.Difference `json:"elements"`
	// Cause is why, as far as can be told, and Remedy what to do.
	Cause  string `json:"cause,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// ComputeTrace follows a connection. dump is what the node's agent tells; nil, with the reason, if it does
// not answer.
func ComputeTrace(o *Observed, c Connection, dump *agentapi.Dump, silence error) (Trace, error) {
	t := Trace{Namespace: o.Group.Namespace, Name: o.Group.Name, Client: c.Client, Node: c.Node}
	if err := traceable(o); err != nil {
		return t, err
	}
	facts := dump
	if facts == nil {
		facts = usualFacts(o, c.Node)
	}
	if err := t.address(o, c, facts.Node); err != nil {
		return t, err
	}
	var found bool
	if t.Source, found = c.Client.address(t.To.Addr.Is4()); !found {
		return t, fmt.Errorf("the client has no address of the family of %s; name another address with --address", t.To.Addr)
	}
	packet := trace.Packet{
		Source: t.Source, To: t.To,
		FromNode:     c.Client.Kind == clientNode && c.Client.Node == c.Node,
		FromLocalPod: c.Client.Kind == clientPod && c.Client.Node == c.Node,
	}
	elements := compute(o, facts)
	memory := memoryOf(facts, t.Source)
	t.Way = trace.Walk(trace.Tables{Elements: elements, Site: facts.Site, Remembered: stillServed(memory, elements)}, packet)
	if slices.Contains(facts.Left, t.To) {
		why := trace.Step{Check: "address", Finding: "a process of the node listened there first, so the NodePort is left to it"}
		t.Way.Steps = append([]trace.Step{why}, t.Way.Steps...)
	}
	t.addBackends(o, facts.Node)
	t.Kernel = compareKernel(&t, elements, packet, dump, silence)
	return t, nil
}

// usualFacts are what the agent of a usual cluster computes with, where the agent itself does not say: the
// pods' ranges are those that Kubernetes gave the nodes.
func usualFacts(o *Observed, node string) *agentapi.Dump {
	facts := &agentapi.Dump{Node: proxy.NodeOf(node, o.Nodes[node])}
	for _, name := range nodeNames(o) {
		for _, text := range o.Nodes[name].Spec.PodCIDRs {
			if pods, err := netip.ParsePrefix(text); err == nil {
				facts.Ranges.Pods = append(facts.Ranges.Pods, pods)
			}
		}
	}
	facts.Ranges.Inside = facts.Ranges.Pods
	return facts
}

// traceable says why a ServiceGroup has no way to trace.
func traceable(o *Observed) error {
	name := o.Group.Name
	switch {
	case o.Service == nil:
		return fmt.Errorf("ServiceGroup %s is not served yet; kubectl servicegroup status %s says why", name, name)
	case o.Service.Spec.Type == corev1.ServiceTypeExternalName:
		return fmt.Errorf("ServiceGroup %s is an alias for %s; there is no address to trace", name, o.Service.Spec.ExternalName)
	case o.Service.Spec.ClusterIP == corev1.ClusterIPNone:
		return fmt.Errorf("ServiceGroup %s is headless: clients connect to the pods themselves; there is no address to trace", name)
	case !plan.HandedToAgents(o.Service):
		return fmt.Errorf("ServiceGroup %s is served by the cluster's own proxy (dataplane Cluster), which cannot be traced", name)
	}
	return nil
}

// compute is what the agent does with the objects. What depends on history, such as the numbers of
// session affinity, is as the agent has it.
func compute(o *Observed, facts *agentapi.Dump) []ruleset.Element {
	built := proxy.Build(o.Service, o.Slices, facts.Node)
	built.Frontends = slices.DeleteFunc(built.Frontends, func(f proxy.Frontend) bool { return slices.Contains(facts.Left, f.Key) })
	name := types.NamespacedName{Namespace: o.Service.Namespace, Name: o.Service.Name}
	state, _ := ruleset.Adopt(ruleset.Tables{Elements: facts.Agent, Counted: facts.Site.CountConnections},
		ruleset.Update{Services: map[types.NamespacedName]*proxy.Service{name: &built}, Ranges: &facts.Ranges}, nil)
	return state.Elements()
}

// address finds out where the client connects.
func (t *Trace) address(o *Observed, c Connection, node proxy.Node) error {
	port, byNodePort, err := findPort(o.Service, c.Port, c.Protocol)
	if err != nil {
		return err
	}
	t.Port = portTitle(port.Name, port.Port, port.Protocol)
	protocol := map[corev1.Protocol]proxy.Protocol{corev1.ProtocolTCP: proxy.TCP, corev1.ProtocolUDP: proxy.UDP, corev1.ProtocolSCTP: proxy.SCTP}[port.Protocol]
	entries := entriesOf(o.Service, port, node)
	ofFamily := func(e entry) bool { _, ok := c.Client.address(e.addr.Is4()); return ok }
	var order []string
	switch {
	case byNodePort:
		order = []string{entryNodePort}
	case c.Client.Kind == clientOutside:
		order = []string{entryNodePort, entryBalancer, entryVIP}
	default:
		order = []string{entryVIP}
	}
	for _, e := range entries {
		if c.Address == e.addr {
			t.To, t.Entry = proxy.Key{Addr: e.addr, Port: e.port, Protocol: protocol}, e.kind
			return nil
		}
	}
	if c.Address.IsValid() {
		return fmt.Errorf("--address %s: the addresses of port %s are %s", c.Address, t.Port, listEntries(entries))
	}
	for _, kind := range order {
		at := slices.IndexFunc(entries, func(e entry) bool { return e.kind == kind && ofFamily(e) })
		if at >= 0 {
			t.To, t.Entry = proxy.Key{Addr: entries[at].addr, Port: entries[at].port, Protocol: protocol}, kind
			return nil
		}
	}
	return fmt.Errorf("port %s has no address of the client's family on node %s; its addresses are %s", t.Port, c.Node, listEntries(entries))
}

// entry is an address of a port.
type entry struct {
	kind string
	addr netip.Addr
	port uint16
}

const (
	entryVIP      = "virtual IP"
	entryBalancer = "load balancer"
	entryNodePort = "NodePort"
)

func entriesOf(service *corev1.Service, port corev1.ServicePort, node proxy.Node) []entry {
	var out []entry
	add := func(kind, text string, number int32) {
		if addr, err := netip.ParseAddr(text); err == nil {
			out = append(out, entry{kind, addr, uint16(number)})
		}
	}
	for _, ip := range service.Spec.ClusterIPs {
		add(entryVIP, ip, port.Port)
	}
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		add(entryBalancer, ingress.IP, port.Port)
	}
	for _, addr := range node.NodePortAddresses {
		if port.NodePort != 0 {
			add(entryNodePort, addr.String(), port.NodePort)
		}
	}
	return out
}

func listEntries(entries []entry) string {
	var out []string
	for _, e := range entries {
		out = append(out, fmt.Sprintf("%s (%s)", netip.AddrPortFrom(e.addr, e.port), e.kind))
	}
	return strings.Join(out, ", ")
}

// findPort finds a port by name, number or NodePort, TCP first.
func findPort(service *corev1.Service, text, protocol string) (port corev1.ServicePort, byNodePort bool, err error) {
	var known []string
	for _, byNodePort := range []bool{false, true} {
		for _, p := range service.Spec.Ports {
			number := p.Port
			if byNodePort {
				number = p.NodePort
			}
			if (number != 0 && text == fmt.Sprint(number) || text == p.Name && text != "") && (protocol == "" || strings.EqualFold(protocol, string(p.Protocol))) {
				return p, byNodePort, nil
			}
		}
	}
	for _, p := range service.Spec.Ports {
		known = append(known, portTitle(p.Name, p.Port, p.Protocol))
	}
	return port, false, fmt.Errorf("ServiceGroup %s has no port %s; it has %s", service.Name, strings.TrimSpace(text+" "+protocol), strings.Join(known, ", "))
}

// addBackends puts names to the choices, and says why the other endpoints are not chosen.
func (t *Trace) addBackends(o *Observed, node proxy.Node) {
	chosen := map[proxy.Endpoint]trace.Choice{}
	for _, c := range t.Way.Choices {
		chosen[c.Endpoint] = c
	}
	seen := map[proxy.Endpoint]bool{}
	served, _ := o.served() // with selectors that are wrong nothing is served
	for i := range served.Groups {
		group := &served.Groups[i]
		for _, ep := range endpointsOf(o.Slices, group.Name) {
			for _, number := range ep.Ports {
				addr, err := netip.ParseAddr(ep.Address)
				at := proxy.Endpoint{Addr: addr, Port: uint16(number)}
				if err != nil || addr.Is4() != t.To.Addr.Is4() || seen[at] || !t.leadsTo(o, group.Name, number) {
					continue
				}
				seen[at] = true
				b := Backend{Endpoint: at, Pod: ep.Pod, Group: group.Name, Node: ep.Node}
				if c, ok := chosen[at]; ok {
					b.Share, b.Masqueraded = c.Share, c.Masqueraded
				} else {
					b.Why = whyNotChosen(t, ep, node)
				}
				t.Backends = append(t.Backends, b)
			}
		}
	}
	slices.SortStableFunc(t.Backends, func(a, b Backend) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), a.Endpoint.Compare(b.Endpoint))
	})
}

// leadsTo says whether the port leads to this port of a group's pods.
func (t *Trace) leadsTo(o *Observed, group string, number int32) bool {
	name, _, named := strings.Cut(t.Port, " ")
	if !named {
		name = ""
	}
	for _, slice := range o.Slices {
		if slice.Labels[v1alpha1.LabelGroup] != group {
			continue
		}
		for _, p := range slice.Ports {
			if p.Port != nil && *p.Port == number && (p.Name == nil && name == "" || p.Name != nil && *p.Name == name) {
				return true
			}
		}
	}
	return false
}

func whyNotChosen(t *Trace, ep Endpoint, node proxy.Node) string {
	switch {
	case ep.State == NotReady:
		return "not ready"
	case t.Way.Verdict == trace.Untouched, t.Way.Verdict != trace.Sent && ep.Node == node.Name:
		return "never asked"
	case ep.State == Terminating:
		return "terminating"
	case t.Way.Remembered != nil:
		return "the client keeps another one"
	case ep.Node != node.Name:
		return "on another node or in another zone, by traffic policy or topology hints"
	}
	return "left to other zones or nodes by topology hints"
}

var errNotAsked = errors.New("no agent was asked")

func compareKernel(t *Trace, elements []ruleset.Element, packet trace.Packet, dump *agentapi.Dump, silence error) Kernel {
	if dump == nil {
		return Kernel{Unknown: cmp.Or(silence, errNotAsked).Error()}
	}
	k := Kernel{Elements: trace.DiffElements(elements, dump.Kernel)}
	k.Effects = trace.Compare(t.Way, trace.Walk(trace.Tables{Elements: dump.Kernel, Site: dump.Site, Remembered: memoryOf(dump, t.Source)}, packet))
	agrees := dump.LayoutFound && len(k.Effects)+len(k.Elements.Missing)+len(k.Elements.Surplus) == 0
	k.Agrees = &agrees
	if agrees {
		return k
	}
	believed := trace.DiffElements(elements, dump.Agent)
	conflict := slices.IndexFunc(dump.Conflicts, func(c agentapi.Conflict) bool { return c.Frontend == t.To })
	switch {
	case conflict >= 0:
		k.Cause = fmt.Sprintf("Service %s has %s: it is its virtual IP, or it had it first", dump.Conflicts[conflict].Holder, t.To)
		k.Remedy = "give one of the two another address or port"
	case !dump.Synced:
		k.Cause, k.Remedy = "the agent is about to look at the kernel", "ask again"
	case !dump.LayoutFound:
		k.Cause = "the tables are missing, or somebody else has changed their rules"
		k.Remedy = "the agent puts them right within two seconds; if this stays, see its log"
	case len(k.Elements.Missing)+len(k.Elements.Surplus) == 0:
		k.Cause = "session affinity remembers an endpoint that has left"
		k.Remedy = fmt.Sprintf("let clients choose anew, on the node: nft flush map %s servicegroup affinity", map[bool]string{true: "ip", false: "ip6"}[t.To.Addr.Is4()])
	case len(believed.Missing)+len(believed.Surplus) == 0:
		k.Cause = "the agent believes what is computed here: somebody else has changed the tables"
		k.Remedy = "the agent puts them right within two seconds; if this stays, see its log"
	default:
		k.Cause = "the agent has not programmed the newest objects"
		k.Remedy = "ask again; if this stays, see its log"
	}
	return k
}
