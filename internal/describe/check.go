package describe

import (
	"fmt"
	"maps"
	"slices"

	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
)

// Installation is what was seen of the installation.
type Installation struct {
	// Version is the plugin's own, and SchemaRevision that of the API that it knows.
	Version        string
	SchemaRevision string
	// Schema is the revision that the cluster's CRD says; empty if it cannot be read.
	Schema string
	// Nodes are the names of all nodes, and Agents what was seen of the agent of each.
	Nodes  []string
	Agents map[string]Agent
	// Managers are the manager's pods.
	Managers []Manager
	// Groups is how many ServiceGroups there are, and Neglected those that the manager has not looked at.
	Groups    int
	Neglected []string
	// Targets are the addresses that the agents connected to, with the ServiceGroup of each.
	Targets map[string]string
	Unread  []string
	// EachNode tells of every node by itself also where all is well.
	EachNode bool
}

// Agent is what was seen of a node's agent.
type Agent struct {
	Pod   string
	Ready bool
	// Check is what it answered; nil if it did not, which Silence explains.
	Check   *agentapi.NodeCheck
	Silence string
}

// Manager is a pod of the manager's.
type Manager struct {
	Pod   string
	Ready bool
	// Version is empty if it is not known.
	Version string
}

// Level says how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warning"
	Fail Level = "failure"
)

// Finding is something that was looked at.
type Finding struct {
	Level   Level  `json:"level"`
	Subject string `json:"subject"`
	What    string `json:"what"`
	Remedy  string `json:"remedy,omitempty"`
}

// Check is the health of an installation.
type Check struct {
	Findings []Finding `json:"findings"`
	Failures int       `json:"failures"`
	Warnings int       `json:"warnings"`
	Unread   []string  `json:"unread,omitempty"`
}

// CheckOf judges an installation.
func CheckOf(in *Installation) Check {
	j := &judge{in: in, fine: map[string][]string{}}
	j.schema()
	j.managers()
	for _, node := range slices.Sorted(slices.Values(in.Nodes)) {
		j.node(node)
	}
	j.tellFine()
	if len(in.Nodes) == 0 && len(in.Agents) == 0 {
		j.find(Fail, "agents", "there is no node with an agent", "install the agent's DaemonSet")
	}
	j.connections()
	out := Check{Findings: j.findings, Unread: in.Unread}
	for _, f := range out.Findings {
		switch f.Level {
		case Fail:
			out.Failures++
		case Warn:
			out.Warnings++
		case OK:
		}
	}
	return out
}

type judge struct {
	in       *Installation
	findings []Finding
	// fine are the nodes of which the same good thing is to be said.
	fine map[string][]string
}

// fewNodes is up to how many nodes are told of one by one where all is well.
const fewNodes = 5

// tellFine adds what is well on the nodes, together where they are many.
func (j *judge) tellFine() {
	for _, what := range slices.Sorted(maps.Keys(j.fine)) {
		if nodes := j.fine[what]; len(nodes) > fewNodes && !j.in.EachNode {
			j.find(OK, plural(len(nodes), "node"), what, "")
			continue
		}
		for _, node := range j.fine[what] {
			j.find(OK, node, what, "")
		}
	}
}

func (j *judge) find(level Level, subject, what, remedy string) {
	j.findings = append(j.findings, Finding{level, subject, what, remedy})
}

func (j *judge) schema() {
	switch {
	case j.in.Schema == "":
		j.find(OK, "API", plural(j.in.Groups, "ServiceGroup"), "")
	case j.in.Schema != j.in.SchemaRevision:
		j.find(Warn, "API", fmt.Sprintf("the CRD has schema revision %s, and this plugin knows %s", j.in.Schema, j.in.SchemaRevision),
			"use the plugin of the cluster's version, or upgrade the CRD")
	default:
		j.find(OK, "API", fmt.Sprintf("%s, schema revision %s", plural(j.in.Groups, "ServiceGroup"), j.in.Schema), "")
	}
}

func (j *judge) managers() {
	ready := 0
	for _, m := range j.in.Managers {
		if !m.Ready {
			continue
		}
		ready++
		if m.Version != "" && m.Version != j.in.Version {
			j.find(Warn, "manager", fmt.Sprintf("pod %s has version %s, and this plugin %s", m.Pod, m.Version, j.in.Version), "use the plugin of the cluster's version")
		}
	}
	switch {
	case len(j.in.Neglected) > 0:
		j.find(Fail, "manager", "it has not looked at "+list(j.in.Neglected), "see whether it runs, and its log")
	case ready > 0:
		j.find(OK, "manager", fmt.Sprintf("%d of %s ready", ready, plural(len(j.in.Managers), "pod")), "")
	case len(j.in.Managers) > 0:
		j.find(Fail, "manager", "none of its pods is ready: "+j.in.Managers[0].Pod, "kubectl describe pod, and its log, say why")
	case j.in.Groups > 0:
		j.find(OK, "manager", "it looks after every ServiceGroup; it has no pod here, so it runs elsewhere", "")
	default:
		j.find(Fail, "manager", "there is no pod of the manager's", "install it, or name another cluster with --context")
	}
}

// node judges the agent of one node.
func (j *judge) node(name string) {
	agent, found := j.in.Agents[name]
	switch {
	case !found:
		j.find(Fail, name, "it has no agent, so connections there reach no ServiceGroup", "see why the agent's DaemonSet leaves it out: taints, node selector")
		return
	case agent.Check == nil:
		j.find(Fail, name, agent.Silence, "")
		return
	case !agent.Ready:
		j.find(Fail, name, "its agent (pod "+agent.Pod+") is not ready", "kubectl describe pod, and its log, say why")
	case agent.Check.Silence != "":
		j.find(Fail, name, agent.Check.Silence, "see the log of pod "+agent.Pod)
	default:
		what := fmt.Sprintf("agent %s, mode %s, Linux %s", agent.Check.Version, agent.Check.Mode, agent.Check.Kernel)
		j.fine[what] = append(j.fine[what], name)
	}
	if agent.Check.Version != j.in.Version {
		j.find(Warn, name, fmt.Sprintf("its agent has version %s, and this plugin %s", agent.Check.Version, j.in.Version), "use the plugin of the cluster's version, or finish the upgrade")
	}
	j.probes(name, agent.Check)
	j.others(name, agent.Check)
}

func (j *judge) probes(name string, check *agentapi.NodeCheck) {
	for _, p := range check.Probes {
		switch {
		case p.Problem == "":
		case p.Optional:
			j.find(Warn, name, p.Name+": "+p.Problem, p.Remedy)
		default:
			j.find(Fail, name, p.Name+": "+p.Problem, p.Remedy)
		}
	}
}

func (j *judge) others(name string, check *agentapi.NodeCheck) {
	for _, proxy := range check.Proxies {
		if check.Mode == "all" {
			j.find(Fail, name, proxy+" has rules, and the agent serves every Service (--mode=all): the two contend", "take kube-proxy off the node and delete its rules (kube-proxy --cleanup)")
		} else {
			what := proxy + " serves the other Services"
			j.fine[what] = append(j.fine[what], name)
		}
	}
	for _, l := range check.Listeners {
		what := fmt.Sprintf("a process of the node listens on %s/%s, which has become a NodePort: nobody outside reaches it", l.Address, l.Protocol)
		if l.Kept {
			what = fmt.Sprintf("a process of the node listens on %s/%s, so that NodePort is left to it", l.Address, l.Protocol)
		}
		j.find(Warn, name, what, "move the process, or give the port another nodePort")
	}
}

// connections judges what came of the agents' connections, ServiceGroup by ServiceGroup.
func (j *judge) connections() {
	failed, tried := map[string][]string{}, 0
	for _, node := range slices.Sorted(maps.Keys(j.in.Agents)) {
		check := j.in.Agents[node].Check
		if check == nil {
			continue
		}
		for _, attempt := range check.Connections {
			tried++
			if attempt.Problem != "" {
				title := j.in.Targets[attempt.Address] + " at " + attempt.Address
				failed[title] = append(failed[title], node+" ("+attempt.Problem+")")
			}
		}
	}
	for _, title := range slices.Sorted(maps.Keys(failed)) {
		j.find(Fail, "connections", title+" cannot be reached from "+list(failed[title]), "kubectl servicegroup trace says where the connection ends; see whether a NetworkPolicy or the pod refuses it")
	}
	switch {
	case tried > 0 && len(failed) == 0:
		j.find(OK, "connections", fmt.Sprintf("all %d from %s to %s were answered", tried, plural(len(j.in.Agents), "node"), plural(len(j.in.Targets), "port")), "")
	case tried == 0:
		j.find(OK, "connections", "none was tried: no ServiceGroup has a ready TCP port", "")
	}
}

// Text is the check for a terminal.
func (c Check) Text(p Paint) string {
	l := &lines{}
	t := table{}
	for _, f := range c.Findings {
		mark := map[Level]string{OK: p.good("ok"), Warn: p.warn("warn"), Fail: p.bad("FAIL")}[f.Level]
		t.row(mark, f.Subject, f.What)
		if f.Remedy != "" {
			t.row("", "", "-> "+f.Remedy)
		}
	}
	t.write(l)
	for _, unread := range c.Unread {
		l.add("%s", p.faint("("+unread+")"))
	}
	l.add("")
	l.add("%s, %s", plural(c.Failures, "failure"), plural(c.Warnings, "warning"))
	return l.String()
}
