package describe

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Width says how much of it to print.
type Width int

const (
	// Narrow shortens long lists.
	Narrow Width = iota
	// Wide lists all of them, with node and zone.
	Wide
)

// narrowEndpoints is how many endpoints of a group are listed where there is no -o wide.
const narrowEndpoints = 10

// Text is the status for a terminal.
func (s Status) Text(p Paint, width Width) string {
	l := &lines{}
	l.add("%s  %s", p.title(s.Namespace+"/"+s.Name), s.Type)
	head := table{}
	head.row("Addresses", s.addresses())
	head.row("Name", s.DNS)
	if s.ExternalName != "" {
		head.row("Alias of", s.ExternalName)
	}
	if extra := s.settings(); extra != "" {
		head.row("Settings", extra)
	}
	if s.Revision != 0 {
		head.row("Serves", p.warn(fmt.Sprintf("revision %d, not the newest spec", s.Revision)))
	}
	if s.Agents != nil {
		head.row("Nodes", s.Agents.text(p))
	}
	head.write(l)
	s.writePorts(l)
	for i := range s.Groups {
		s.Groups[i].write(l, p, width)
	}
	writeProblems(l, p, s.Problems)
	for _, unread := range s.Unread {
		l.add("%s", p.faint("("+unread+")"))
	}
	return l.String()
}

func (s *Status) addresses() string {
	switch {
	case s.Type == string(corev1.ServiceTypeExternalName):
		return "none: it is a name"
	case len(s.ClusterIPs) == 0:
		return "none yet"
	case s.ClusterIPs[0] == corev1.ClusterIPNone:
		return "none: headless, its name leads to the pods"
	}
	out := strings.Join(s.ClusterIPs, ", ")
	if len(s.External) > 0 {
		out += "; load balancer " + strings.Join(s.External, ", ")
	}
	return out
}

func (s *Status) settings() string {
	settings := append([]string(nil), s.Policies...)
	if s.Affinity != "" {
		settings = append(settings, "sessionAffinity "+s.Affinity)
	}
	if s.Dataplane != "Agent" {
		settings = append(settings, "dataplane "+s.Dataplane)
	}
	return strings.Join(settings, ", ")
}

func (a *AgentStatus) text(p Paint) string {
	if a.Summary != "" {
		return a.Summary
	}
	total := len(a.Programmed) + len(a.Behind) + len(a.Silent)
	text := fmt.Sprintf("%d of %s programmed", len(a.Programmed), plural(total, "node"))
	if len(a.Programmed) == total {
		return p.good(text)
	}
	if len(a.Behind) > 0 {
		text += "; behind: " + list(a.Behind)
	}
	if len(a.Silent) > 0 {
		text += "; no report: " + list(a.Silent)
	}
	return p.warn(text)
}

func (s *Status) writePorts(l *lines) {
	if len(s.Ports) == 0 {
		return
	}
	l.add("")
	t := table{}
	t.row("PORT", "NODEPORT", "LEADS TO")
	for _, port := range s.Ports {
		nodePort := "-"
		if port.NodePort != 0 {
			nodePort = fmt.Sprint(port.NodePort)
		}
		var targets []string
		for _, target := range port.Targets {
			targets = append(targets, target.Group+":"+target.TargetPort)
		}
		t.row(portTitle(port.Name, port.Port, corev1.Protocol(port.Protocol)), nodePort, strings.Join(targets, ", "))
	}
	t.write(l)
}

func (g *GroupStatus) write(l *lines, p Paint, width Width) {
	l.add("")
	count := fmt.Sprintf("%d of %s ready", g.Ready, plural(int(g.Matched), "pod"))
	if g.External {
		count = fmt.Sprintf("%d of %s ready", g.Ready, plural(int(g.Matched), "address"))
	}
	switch {
	case g.Ready == 0:
		count = p.bad(count)
	case g.Ready < g.Matched:
		count = p.warn(count)
	default:
		count = p.good(count)
	}
	title := "Group " + p.title(g.Name)
	if g.Selector != "" {
		title += "  " + p.faint(g.Selector)
	}
	l.add("%s  %s", title, count)
	t := table{indent: "  "}
	for i, ep := range g.Endpoints {
		if width == Narrow && i == narrowEndpoints {
			break
		}
		cells := []string{dash(ep.Pod), ep.Address, portList(ep.Ports), p.state(ep.State)}
		if width == Wide {
			cells = append(cells, ep.Node, ep.Zone)
		}
		t.row(cells...)
	}
	t.write(l)
	if more := len(g.Endpoints) - narrowEndpoints; width == Narrow && more > 0 {
		l.add("  %s", p.faint(fmt.Sprintf("and %d more: -o wide lists them", more)))
	}
}

func portList(ports []int32) string {
	if len(ports) == 0 {
		return "-"
	}
	out := make([]string, 0, len(ports))
	for _, port := range ports {
		out = append(out, fmt.Sprint(port))
	}
	return strings.Join(out, ",")
}

func (p Paint) state(s State) string {
	switch s {
	case Ready:
		return p.good(string(s))
	case Terminating:
		return p.warn(string(s))
	}
	return p.bad(string(s))
}

func writeProblems(l *lines, p Paint, problems []Problem) {
	if len(problems) == 0 {
		return
	}
	l.add("")
	for _, problem := range problems {
		l.add("%s %s", p.bad("!"), problem.What)
		if problem.Remedy != "" {
			l.add("  -> %s", problem.Remedy)
		}
	}
}
