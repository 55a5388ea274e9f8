package describe

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// Text is the explanation for a terminal.
func (e Explanation) Text(p Paint, width Width) string {
	l := &lines{}
	title := p.title(e.Namespace + "/" + e.Name)
	if e.Only != "" {
		title += "  pod " + p.title(e.Only)
	}
	l.add("%s", title)
	if e.Note != "" {
		l.add("%s", p.warn("("+e.Note+")"))
	}
	for i := range e.Groups {
		e.Groups[i].write(l, p, width, e.Only != "")
	}
	if e.Only == "" {
		l.add("")
		l.add("%s", p.faint(fmt.Sprintf("%d of the namespace's %s in no group; --pod NAME says why", e.Unselected, arePods(e.Pods, e.Unselected))))
	}
	for _, unread := range e.Unread {
		l.add("%s", p.faint("("+unread+")"))
	}
	return l.String()
}

func arePods(all, some int) string {
	if some == 1 {
		return plural(all, "pod") + " is"
	}
	return plural(all, "pod") + " are"
}

func (g *GroupExplanation) write(l *lines, p Paint, width Width, one bool) {
	l.add("")
	title := "Group " + p.title(g.Name)
	if g.Selector != "" {
		title += "  " + p.faint(g.Selector)
	}
	if !one {
		title += "  " + g.counts()
	}
	l.add("%s", title)
	t := table{indent: "  "}
	if g.External != nil && !one {
		g.External.rows(&t, p)
	}
	for i := range g.Pods {
		g.Pods[i].row(&t, p, width)
	}
	t.write(l)
}

func (g *GroupExplanation) counts() string {
	if g.External != nil {
		return plural(len(g.External.Addresses)+int(g.External.LeftOut), "address")
	}
	if len(g.Counts) == 0 {
		return "selects no pod"
	}
	words := map[plan.Standing]string{
		plan.Serving: "ready", plan.Terminating: "terminating", plan.NotReady: "not ready", plan.NoAddress: "without an address",
		plan.NoNode: "without a node", plan.BadAddress: "with a bad address", plan.NoFamily: "of another address family", plan.Finished: "finished",
	}
	var out []string
	for _, c := range g.Counts {
		out = append(out, fmt.Sprintf("%d %s", c.Pods, words[c.Standing]))
	}
	return strings.Join(out, ", ")
}

func (e *ExternalExplanation) rows(t *table, p Paint) {
	for _, address := range e.Addresses {
		if address.State == Ready {
			t.row(p.good("in"), address.Address, "it is ready")
		} else {
			t.row(p.bad("out"), address.Address, "it fails its health check")
		}
	}
	if e.LeftOut > 0 {
		t.row(p.bad("out"), plural(int(e.LeftOut), "address"), "not allowed, of another family than the entry point, or too many; the condition Accepted says which are not allowed")
	}
}

// row is a line for the pod, and one for each thing that it lacks.
func (e *PodExplanation) row(t *table, p Paint, width Width) {
	mark := p.bad("out")
	switch {
	case e.In:
		mark = p.good("in")
	case e.Standing == plan.Terminating:
		mark = p.warn("out")
	}
	pod := []string{mark, e.Name, dash(e.Address), dash(e.Node), e.Why}
	if width == Wide {
		pod = append(pod, labels.FormatLabels(e.Labels))
	}
	t.row(pod...)
	for _, port := range e.Ports {
		if port.Missing {
			t.row("", "", "", "", p.warn(fmt.Sprintf("not on port %s: no container port is named %s with that protocol", port.Port, port.Target)))
		}
	}
	if e.Lag != "" {
		t.row("", "", "", "", p.warn(e.Lag))
	}
	if e.Remedy != "" {
		t.row("", "", "", "", p.faint("-> "+e.Remedy))
	}
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
