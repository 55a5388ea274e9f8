package describe

import (
	"fmt"

	"github.com/servicegroup-dev/servicegroup/internal/trace"
)

// listedElements is how many differing elements are listed where width is Narrow.
const listedElements = 10

// Text is the trace for a terminal.
func (t Trace) Text(p Paint, width Width) string {
	l := &lines{}
	head := table{}
	head.row("To", fmt.Sprintf("%s  %s  (%s of %s)", p.title(t.Namespace+"/"+t.Name), t.To, t.Entry, t.Port))
	head.row("From", t.from())
	head.row("On node", t.Node)
	head.write(l)
	l.add("")
	steps := table{indent: "  "}
	for i, step := range t.Way.Steps {
		steps.row(fmt.Sprint(i+1), step.Check, step.Finding)
	}
	steps.write(l)
	l.add("")
	t.writeVerdict(l, p)
	backends := table{indent: "  "}
	for i := range t.Backends {
		b := &t.Backends[i]
		share := p.faint("-")
		if b.Share > 0 {
			share = p.good(fmt.Sprintf("%.1f %%", 100*b.Share))
		}
		backends.row(share, b.Endpoint.String(), dash(b.Pod), "group "+b.Group, dash(b.Node), p.faint(b.Why))
	}
	backends.write(l)
	l.add("")
	t.writeKernel(l, p, width)
	return l.String()
}

func (t *Trace) from() string {
	switch {
	case t.Client.Kind == clientOutside:
		return t.Source.String() + " (outside the cluster)"
	case t.Client.Name == "":
		return fmt.Sprintf("%s (a pod of node %s)", t.Source, t.Client.Node)
	case t.Client.Kind == clientPod:
		return fmt.Sprintf("%s (pod %s on node %s)", t.Source, t.Client.Name, t.Client.Node)
	}
	return fmt.Sprintf("%s (node %s)", t.Source, t.Client.Name)
}

func (t *Trace) writeVerdict(l *lines, p Paint) {
	switch t.Way.Verdict {
	case trace.Sent:
		if t.Way.Remembered != nil {
			l.add("%s to the endpoint that the client had before", p.good("Sent"))
			return
		}
		if len(t.Way.Choices) == 1 {
			l.add("%s to the only endpoint", p.good("Sent"))
			return
		}
		l.add("%s to one of %s", p.good("Sent"), plural(len(t.Way.Choices), "endpoint"))
	case trace.Rejected:
		l.add("%s: the client is told at once (TCP reset, or ICMP port unreachable)", p.bad("Rejected"))
	case trace.Dropped:
		l.add("%s: the client gets no answer", p.bad("Dropped"))
	default:
		l.add("%s: the tables have nothing to say to it", p.warn("Untouched"))
	}
}

func (t *Trace) writeKernel(l *lines, p Paint, width Width) {
	k := &t.Kernel
	switch {
	case k.Agrees == nil:
		l.add("Kernel of %s: %s: %s", t.Node, p.warn("not known"), k.Unknown)
		l.add("  what the agent was told of the pods' ranges is not known either; those above are the nodes' podCIDRs")
		return
	case *k.Agrees:
		l.add("Kernel of %s: %s", t.Node, p.good("agrees"))
		return
	}
	l.add("Kernel of %s: %s", t.Node, p.bad("differs"))
	for _, effect := range k.Effects {
		l.add("  %s %s", p.bad("!"), effect)
	}
	writeElements(l, p.faint("missing"), k.Elements.Missing, width)
	writeElements(l, p.faint("surplus"), k.Elements.Surplus, width)
	l.add("  %s", k.Cause)
	l.add("  -> %s", k.Remedy)
}

func writeElements(l *lines, what string, elements []string, width Width) {
	for i, element := range elements {
		if width == Narrow && i == listedElements {
			l.add("  %s and %d more", what, len(elements)-listedElements)
			return
		}
		l.add("  %s %s", what, element)
	}
}
