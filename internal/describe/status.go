package describe

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// Status is the state of a ServiceGroup.
type Status struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Type      string `json:"type"`
	Dataplane string `json:"dataplane"`
	// ClusterIPs, External and DNS are its addresses and its name.
	ClusterIPs   []string `json:"clusterIPs,omitempty"`
	External     []string `json:"external,omitempty"`
	DNS          string   `json:"dns"`
	ExternalName string   `json:"externalName,omitempty"`
	Affinity     string   `json:"sessionAffinity,omitempty"`
	Policies     []string `json:"trafficPolicies,omitempty"`
	// Revision is the accepted spec that is served, where it is not the newest one.
	Revision int64 `json:"revision,omitempty"`
	Paused   bool  `json:"paused,omitempty"`

	Ports    []PortStatus  `json:"ports,omitempty"`
	Groups   []GroupStatus `json:"groups,omitempty"`
	Agents   *AgentStatus  `json:"agents,omitempty"`
	Problems []Problem     `json:"problems,omitempty"`
	Unread   []string      `json:"unread,omitempty"`
}

// PortStatus is a port of the entry point.
type PortStatus struct {
	Name     string   `json:"name,omitempty"`
	Port     int32    `json:"port"`
	Protocol string   `json:"protocol"`
	NodePort int32    `json:"nodePort,omitempty"`
	Targets  []Target `json:"targets"`
}

// Target is where a port leads.
type Target struct {
	Group      string `json:"group"`
	TargetPort string `json:"targetPort"`
}

// GroupStatus is a group of pods, or of addresses outside the cluster.
type GroupStatus struct {
	Name     string `json:"name"`
	Selector string `json:"selector,omitempty"`
	// External says that its endpoints are no pods, and Selector what they are.
	External bool `json:"external,omitempty"`
	// Matched pods have an address and have not finished; Ready ones take new connections.
	Matched   int32      `json:"matched"`
	Ready     int32      `json:"ready"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
}

// AgentStatus is how far the agents are.
type AgentStatus struct {
	// Programmed and Behind are the nodes that have, or do not have yet, what is written.
	Programmed []string `json:"programmed,omitempty"`
	Behind     []string `json:"behind,omitempty"`
	// Silent are the nodes whose agent is down, or that have none.
	Silent []string `json:"silent,omitempty"`
	// Summary is what the manager says of them, where the user may not look at each.
	Summary string `json:"summary,omitempty"`
}

// Problem is something wrong, and what to do about it.
type Problem struct {
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"`
}

// StatusOf computes the state of a ServiceGroup.
func StatusOf(o *Observed) Status {
	spec := o.servedSpec()
	s := Status{
		Namespace: o.Group.Namespace, Name: o.Group.Name, Type: string(typeOf(o)), Dataplane: string(spec.Dataplane),
		DNS:      o.Group.Name + "." + o.Group.Namespace + ".svc",
		Affinity: affinityOf(spec), Policies: policiesOf(spec), Unread: o.Unread,
		Paused: o.Group.Spec.Paused,
	}
	if o.behind() {
		s.Revision = o.Revision
	}
	if s.Dataplane == "" {
		s.Dataplane = string(v1alpha1.DataplaneAgent)
	}
	s.addAddresses(o)
	served, _ := o.served() // without it, for a selector that is wrong, there is nothing to show
	s.addPorts(o, served)
	s.Groups = groupStatuses(o, served)
	if o.Service != nil && plan.HandedToAgents(o.Service) {
		s.Agents = agentStatus(o)
	}
	s.Problems = problemsOf(o, &s)
	return s
}

func typeOf(o *Observed) corev1.ServiceType {
	switch {
	case o.Service != nil:
		return o.Service.Spec.Type
	case o.Group.Spec.Type != "":
		return o.Group.Spec.Type
	}
	return corev1.ServiceTypeClusterIP
}

func affinityOf(spec *v1alpha1.ServiceGroupSpec) string {
	if spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return ""
	}
	return string(spec.SessionAffinity)
}

// policiesOf are the policies that are not what everybody has.
func policiesOf(spec *v1alpha1.ServiceGroupSpec) []string {
	var out []string
	if spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		out = append(out, "externalTrafficPolicy Local")
	}
	if p := spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
		out = append(out, "internalTrafficPolicy Local")
	}
	if spec.TrafficDistribution != nil {
		out = append(out, "trafficDistribution "+*spec.TrafficDistribution)
	}
	return out
}

func (s *Status) addAddresses(o *Observed) {
	if o.Service == nil {
		return
	}
	s.ClusterIPs = o.Service.Spec.ClusterIPs
	s.ExternalName = o.Service.Spec.ExternalName
	for _, ingress := range o.Service.Status.LoadBalancer.Ingress {
		if ingress.IP != "" {
			s.External = append(s.External, ingress.IP)
		} else {
			s.External = append(s.External, ingress.Hostname)
		}
	}
}

func (s *Status) addPorts(o *Observed, served plan.EntryPoint) {
	for i := range served.Ports {
		port := &served.Ports[i]
		status := PortStatus{Name: port.Name, Port: port.Number, Protocol: string(port.Protocol), NodePort: nodePortOf(o, port)}
		for _, group := range served.GroupsOf(port) {
			target, _ := port.Target(group)
			status.Targets = append(status.Targets, Target{Group: group, TargetPort: target.String()})
		}
		s.Ports = append(s.Ports, status)
	}
}

func nodePortOf(o *Observed, port *plan.Port) int32 {
	if o.Service == nil {
		return 0
	}
	for _, p := range o.Service.Spec.Ports {
		if p.Port == port.Number && p.Protocol == port.Protocol {
			return p.NodePort
		}
	}
	return 0
}

// groupStatuses counts the pods as the manager does, which writes the counts down a little later.
func groupStatuses(o *Observed, served plan.EntryPoint) []GroupStatus {
	service := o.Service
	if service == nil {
		service = &corev1.Service{}
	}
	members := plan.Members(service, served, plan.Observed{Pods: o.Pods, Nodes: o.Nodes})
	out := make([]GroupStatus, 0, len(served.Groups))
	for i := range served.Groups {
		group := &served.Groups[i]
		status := GroupStatus{Name: group.Name, Selector: selectorText(group), External: group.External != nil, Endpoints: endpointsOf(o.Slices, group.Name)}
		for _, counted := range o.Group.Status.Groups {
			if counted.Name == group.Name {
				status.Matched, status.Ready = counted.Matched, counted.Ready
			}
		}
		if len(members) > i && !status.External {
			status.Matched, status.Ready = members[i].Matched, members[i].Ready
		}
		out = append(out, status)
	}
	return out
}

func agentStatus(o *Observed) *AgentStatus {
	if o.ReportsUnread {
		summary := "not known"
		if programmed := meta.FindStatusCondition(o.Group.Status.Conditions, v1alpha1.ConditionProgrammed); programmed != nil {
			summary = programmed.Message
		}
		return &AgentStatus{Summary: summary}
	}
	want := plan.RevisionsOf(o.Service, o.Slices)
	status, reporting := &AgentStatus{}, map[string]bool{}
	for _, report := range o.Reports {
		reporting[report.Node] = true
		switch {
		case report.Stale:
			status.Silent = append(status.Silent, report.Node)
		case report.Programmed.Covers(want):
			status.Programmed = append(status.Programmed, report.Node)
		default:
			status.Behind = append(status.Behind, report.Node)
		}
	}
	for name, node := range o.Nodes {
		if !reporting[name] && WantsAgent(node) {
			status.Silent = append(status.Silent, name)
		}
	}
	for _, names := range [][]string{status.Programmed, status.Behind, status.Silent} {
		slices.Sort(names)
	}
	return status
}

// WantsAgent says whether a node is to have an agent: one with Linux is, and one that does not say what it has.
func WantsAgent(node *corev1.Node) bool {
	system, known := node.Labels[corev1.LabelOSStable]
	return !known || system == "linux"
}

// problemsOf are the conditions that are not True, a fault, and what no condition says.
func problemsOf(o *Observed, s *Status) []Problem {
	var out []Problem
	if s.Paused {
		out = append(out, pausedProblem())
	}
	if len(o.Group.Status.Conditions) == 0 {
		out = append(out, Problem{
			What:   "the manager has not looked at it yet",
			Remedy: "see whether the manager runs: kubectl servicegroup check",
		})
	}
	for i := range o.Group.Status.Conditions {
		c := &o.Group.Status.Conditions[i]
		if c.Status == metav1.ConditionTrue && c.Reason != v1alpha1.ReasonFault {
			continue
		}
		out = append(out, Problem{What: c.Type + " is " + string(c.Status) + " (" + c.Reason + "): " + c.Message, Remedy: remedyOf(o, s, c)})
	}
	if s.Type == string(corev1.ServiceTypeLoadBalancer) && len(s.External) == 0 {
		out = append(out, Problem{What: "no load balancer has given it an address", Remedy: "see whether the cluster has a load-balancer controller, and spec.loadBalancerClass"})
	}
	if s.Agents != nil && len(s.Agents.Silent) > 0 {
		out = append(out, Problem{
			What:   "no agent reports on " + list(s.Agents.Silent),
			Remedy: "kubectl servicegroup check says why; what was programmed there before stays as it was",
		})
	}
	return out
}

func pausedProblem() Problem {
	return Problem{
		What:   "it is paused: its Service and EndpointSlices stay as they are, whatever happens to its pods or its spec",
		Remedy: "set spec.paused to false to go on",
	}
}

func remedyOf(o *Observed, s *Status, c *metav1.Condition) string {
	if c.Type == v1alpha1.ConditionResolvedRefs {
		return "correct the hostname, or its DNS records; the manager looks it up again by itself"
	}
	switch c.Reason {
	case v1alpha1.ReasonNoReadyEndpoints:
		return "kubectl servicegroup explain " + s.Name + " -n " + s.Namespace + " says why each pod is in or out"
	case v1alpha1.ReasonPending, v1alpha1.ReasonNoAgents:
		return "kubectl servicegroup check looks at the agents"
	case v1alpha1.ReasonNotAccepted:
		return "see Accepted"
	case v1alpha1.ReasonFault:
		return "if it does not pass, look into the manager's log"
	case v1alpha1.ReasonNameTaken:
		return "kubectl servicegroup convert svc/" + s.Name + " -n " + s.Namespace + " takes it over with its addresses"
	case v1alpha1.ReasonInvalidSpec, v1alpha1.ReasonNodePortUnavailable, v1alpha1.ReasonClusterIPUnavailable, v1alpha1.ReasonRefused:
		if o.Service != nil && !strings.Contains(c.Message, "goes on being served") {
			return "correct the field; what is served goes on"
		}
		return "correct the field"
	}
	return ""
}
