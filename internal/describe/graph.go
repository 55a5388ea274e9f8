package describe

import (
	"fmt"
	"html"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// drawnEndpoints is how many endpoints of a group are drawn.
const drawnEndpoints = 12

// picture is a ServiceGroup as boxes: an entry, its ports, and groups with their endpoints.
type picture struct {
	entry  []string
	ports  [][]string
	groups []pictureGroup
	// arrows lead from ports to groups, by their places.
	arrows []arrow
}

type pictureGroup struct {
	title     string
	endpoints []pictureEndpoint
}

type pictureEndpoint struct {
	lines []string
	state State
}

type arrow struct {
	port, group int
	label       string
}

func (s *Status) picture() picture {
	p := picture{entry: []string{s.Namespace + "/" + s.Name, s.addresses()}}
	at := map[string]int{}
	for i := range s.Groups {
		group := &s.Groups[i]
		at[group.Name] = i
		title := fmt.Sprintf("%s (%d of %d ready)", group.Name, group.Ready, group.Matched)
		drawn := pictureGroup{title: title}
		for j, ep := range group.Endpoints {
			if j == drawnEndpoints {
				more := fmt.Sprintf("and %d more", len(group.Endpoints)-drawnEndpoints)
				drawn.endpoints = append(drawn.endpoints, pictureEndpoint{lines: []string{more}})
				break
			}
			lines := nonEmpty(ep.Pod, ep.Address)
			if ep.State != Ready {
				lines = append(lines, string(ep.State))
			}
			drawn.endpoints = append(drawn.endpoints, pictureEndpoint{lines: lines, state: ep.State})
		}
		if len(group.Endpoints) == 0 {
			drawn.endpoints = []pictureEndpoint{{lines: []string{"no endpoint"}, state: NotReady}}
		}
		p.groups = append(p.groups, drawn)
	}
	for i, port := range s.Ports {
		lines := []string{portTitle(port.Name, port.Port, corev1.Protocol(port.Protocol))}
		if port.NodePort != 0 {
			lines = append(lines, fmt.Sprintf("NodePort %d", port.NodePort))
		}
		p.ports = append(p.ports, lines)
		for _, target := range port.Targets {
			p.arrows = append(p.arrows, arrow{port: i, group: at[target.Group], label: target.TargetPort})
		}
	}
	return p
}

var stateClass = map[State]string{Ready: "ready", Terminating: "terminating", NotReady: "notready", "": "more"}

// stateColour is the fill of an endpoint's box.
var stateColour = map[State]string{Ready: "#d5efd9", Terminating: "#fdeebf", NotReady: "#f8d4d4", "": "#eeeeee"}

// Mermaid is the picture as a flowchart for Markdown.
func (s Status) Mermaid() string {
	p, l := s.picture(), &lines{}
	box := func(text []string) string {
		escaped := make([]string, 0, len(text))
		for _, line := range text {
			escaped = append(escaped, strings.ReplaceAll(html.EscapeString(line), "&#34;", "&quot;"))
		}
		return `"` + strings.Join(escaped, "<br/>") + `"`
	}
	l.add("flowchart LR")
	l.add("  entry([%s])", box(p.entry))
	for i, port := range p.ports {
		l.add("  port%d[%s]", i, box(port))
		l.add("  entry --> port%d", i)
	}
	for i, group := range p.groups {
		l.add("  subgraph group%d[%s]", i, box([]string{group.title}))
		for j, ep := range group.endpoints {
			l.add("    ep%d_%d[%s]:::%s", i, j, box(ep.lines), stateClass[ep.state])
		}
		l.add("  end")
	}
	for _, a := range p.arrows {
		l.add("  port%d -- %s --> group%d", a.port, box([]string{a.label}), a.group)
	}
	for _, state := range []State{Ready, Terminating, NotReady, ""} {
		l.add("  classDef %s fill:%s,stroke:#888,color:#222", stateClass[state], stateColour[state])
	}
	return l.String()
}

// Dot is the picture for Graphviz.
func (s Status) Dot() string {
	p, l := s.picture(), &lines{}
	label := func(text []string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\x00", `\n`).Replace(strings.Join(text, "\x00")) + `"`
	}
	l.add("digraph %s {", label([]string{s.Namespace + "/" + s.Name}))
	l.add("  rankdir=LR; compound=true;")
	l.add("  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans-serif\"];")
	l.add("  entry [label=%s, shape=oval];", label(p.entry))
	for i, port := range p.ports {
		l.add("  port%d [label=%s];", i, label(port))
		l.add("  entry -> port%d;", i)
	}
	for i, group := range p.groups {
		l.add("  subgraph cluster%d {", i)
		l.add("    label=%s;", label([]string{group.title}))
		for j, ep := range group.endpoints {
			l.add("    ep%d_%d [label=%s, fillcolor=%q];", i, j, label(ep.lines), stateColour[ep.state])
		}
		l.add("  }")
	}
	for _, a := range p.arrows {
		l.add("  port%d -> ep%d_0 [label=%s, lhead=cluster%d];", a.port, a.group, label([]string{a.label}), a.group)
	}
	l.add("}")
	return l.String()
}
