package describe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/endpointslice"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// Explanation says why pods are in or out.
type Explanation struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Note says that what is explained is not what the spec says.
	Note   string             `json:"note,omitempty"`
	Groups []GroupExplanation `json:"groups"`
	// Pods is how many pods the namespace has, and Unselected how many of them no group selects.
	Pods       int `json:"pods"`
	Unselected int `json:"unselected"`
	// Only is the one pod that was asked for.
	Only   string   `json:"only,omitempty"`
	Unread []string `json:"unread,omitempty"`
}

// GroupExplanation says it for one group.
type GroupExplanation struct {
	Name     string           `json:"name"`
	Selector string           `json:"selector,omitempty"`
	Counts   []StandingCount  `json:"counts,omitempty"`
	Pods     []PodExplanation `json:"pods,omitempty"`
	// External are the addresses of an external group, which has no pods.
	External *ExternalExplanation `json:"external,omitempty"`
}

// ExternalExplanation says which addresses of an external group are in.
type ExternalExplanation struct {
	Addresses []Endpoint `json:"addresses,omitempty"`
	// LeftOut is how many are in no EndpointSlice.
	LeftOut int32 `json:"leftOut,omitempty"`
}

// StandingCount is how many pods have a standing.
type StandingCount struct {
	Standing plan.Standing `json:"standing"`
	Pods     int           `json:"pods"`
}

// PodExplanation says it for one pod.
type PodExplanation struct {
	Name    string `json:"name"`
	Node    string `json:"node,omitempty"`
	Address string `json:"address,omitempty"`
	// Labels are the pod's, which selectors look at.
	Labels   map[string]string `json:"labels,omitempty"`
	Standing plan.Standing     `json:"standing"`
	// In says that the pod gets new connections on at least one port.
	In bool `json:"in"`
	// Why are the reasons, and Remedy what would change it.
	Why    string            `json:"why"`
	Remedy string            `json:"remedy,omitempty"`
	Ports  []PortExplanation `json:"ports,omitempty"`
	// Lag says that the EndpointSlices do not say so yet.
	Lag string `json:"lag,omitempty"`
}

// PortExplanation says whether a pod has the target of a port.
type PortExplanation struct {
	Port   string `json:"port"`
	Target string `json:"target"`
	// Missing says that the pod has no container port of that name.
	Missing bool `json:"missing,omitempty"`
}

// standings in the order in which they are counted.
var standings = []plan.Standing{
	plan.Serving, plan.Terminating, plan.NotReady, plan.NoAddress, plan.NoNode, plan.BadAddress, plan.NoFamily, plan.Finished,
}

// Explain says why each pod that a group selects is in or out, or, with the name of a pod, why that
// one is, for every group. The error says that there is no such pod.
func Explain(o *Observed, only string) (Explanation, error) {
	e := Explanation{Namespace: o.Group.Namespace, Name: o.Group.Name, Only: only, Pods: len(o.Pods), Unread: o.Unread}
	e.Note = noteOf(o)
	pods := slices.SortedFunc(slices.Values(o.Pods), func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	if only != "" && !slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return pod.Name == only }) {
		var names []string
		for _, pod := range pods {
			names = append(names, pod.Name)
		}
		return e, Unknown("pod", only, o.Group.Namespace, names)
	}
	served, err := o.served()
	if err != nil {
		return e, err
	}
	selected := map[string]bool{}
	for i := range served.Groups {
		x := explainer{observed: o, served: served, group: &served.Groups[i], service: o.Service}
		if x.service == nil {
			x.service = &corev1.Service{}
		}
		e.Groups = append(e.Groups, x.explain(pods, only, selected))
	}
	e.Unselected = len(pods) - len(selected)
	return e, nil
}

func noteOf(o *Observed) string {
	if o.Service == nil && o.Group.Spec.Type != corev1.ServiceTypeExternalName {
		return "nothing is served yet; this is what the spec asks for"
	}
	for _, c := range o.Group.Status.Conditions {
		if c.Type == v1alpha1.ConditionAccepted && c.Status == "False" {
			if strings.HasSuffix(c.Message, plan.RestIsServed) {
				return "a part of the spec is not served: " + c.Message
			}
			return "the newest spec is not accepted; this is what is served: " + c.Message
		}
	}
	return ""
}

// explainer explains one group.
type explainer struct {
	observed *Observed
	served   plan.EntryPoint
	group    *plan.Group
	service  *corev1.Service
}

func (x *explainer) explain(pods []*corev1.Pod, only string, selected map[string]bool) GroupExplanation {
	out := GroupExplanation{Name: x.group.Name, Selector: selectorText(x.group)}
	written := endpointsOf(x.observed.Slices, x.group.Name)
	if x.group.External != nil {
		out.External = x.explainExternal(written)
	}
	counts := map[plan.Standing]int{}
	for _, pod := range pods {
		standing := plan.StandingOf(x.service, x.group.Selects, pod, x.observed.Nodes)
		if standing != plan.NotSelected {
			selected[pod.Name] = true
			counts[standing]++
		}
		if only == "" && standing == plan.NotSelected || only != "" && only != pod.Name {
			continue
		}
		out.Pods = append(out.Pods, x.explainPod(pod, standing, written))
	}
	for _, standing := range standings {
		if counts[standing] > 0 {
			out.Counts = append(out.Counts, StandingCount{standing, counts[standing]})
		}
	}
	return out
}

func (x *explainer) explainExternal(written []Endpoint) *ExternalExplanation {
	out := &ExternalExplanation{Addresses: written}
	for _, counted := range x.observed.Group.Status.Groups {
		if counted.Name == x.group.Name {
			out.LeftOut = counted.LeftOut
		}
	}
	return out
}

func (x *explainer) explainPod(pod *corev1.Pod, standing plan.Standing, written []Endpoint) PodExplanation {
	e := PodExplanation{Name: pod.Name, Node: pod.Spec.NodeName, Address: pod.Status.PodIP, Labels: pod.Labels, Standing: standing}
	e.Why, e.Remedy = x.reason(pod, standing)
	if standing == plan.NotSelected {
		return e
	}
	missing := 0
	for i := range x.served.Ports {
		if target, ok := x.served.Ports[i].Target(x.group.Name); ok {
			port := explainPort(pod, &x.served.Ports[i], target)
			e.Ports = append(e.Ports, port)
			if port.Missing {
				missing++
			}
		}
	}
	publish := x.service.Spec.PublishNotReadyAddresses
	e.In = standing == plan.Serving || publish && (standing == plan.NotReady || standing == plan.Terminating)
	if x.observed.Service != nil {
		e.Lag = lagOf(e.In, pod, written)
	}
	if missing > 0 && missing == len(e.Ports) {
		e.In = false // an endpoint without a port
	}
	return e
}

func explainPort(pod *corev1.Pod, port *plan.Port, target intstr.IntOrString) PortExplanation {
	out := PortExplanation{Port: portTitle(port.Name, port.Number, port.Protocol), Target: target.String()}
	number, err := endpointslice.FindPort(pod, &corev1.ServicePort{Protocol: port.Protocol, TargetPort: target})
	switch {
	case err != nil:
		out.Missing = true
	case target.Type == intstr.String:
		out.Target = fmt.Sprintf("%s (%d)", target.StrVal, number)
	}
	return out
}

// lagOf compares what should be written of a pod's addresses, whichever of them the entry point has the family
// of, with what is.
func lagOf(in bool, pod *corev1.Pod, written []Endpoint) string {
	if len(pod.Status.PodIPs) == 0 {
		return ""
	}
	found := false
	for _, ep := range written {
		if !slices.Contains(pod.Status.PodIPs, corev1.PodIP{IP: ep.Address}) {
			continue
		}
		found = true
		switch {
		case in && ep.State != Ready:
			return "its EndpointSlice still says: " + string(ep.State)
		case !in && ep.State == Ready:
			return "its EndpointSlice still says: ready"
		}
	}
	if in && !found {
		return "the manager has not written it into an EndpointSlice yet"
	}
	return ""
}

func (x *explainer) reason(pod *corev1.Pod, standing plan.Standing) (why, remedy string) {
	switch standing {
	case plan.NotSelected:
		if x.group.External != nil {
			return "not selected: the group has addresses outside the cluster in place of pods", ""
		}
		return "not selected: " + mismatch(x.group.Selects, pod.Labels), "change the pod's labels, or the group's selector"
	case plan.Finished:
		return "it has finished: " + string(pod.Status.Phase), ""
	case plan.NoAddress:
		return "it has no address yet: " + cmp.Or(waitingFor(pod), "it is "+string(cmp.Or(pod.Status.Phase, corev1.PodPending))), "kubectl describe pod " + pod.Name
	case plan.BadAddress:
		return "its address " + pod.Status.PodIP + " is loopback, link-local or multicast, which no EndpointSlice may have", "see how the pod network gives addresses"
	case plan.NoFamily:
		return "its address " + pod.Status.PodIP + " is of a family that the entry point does not have", "see spec.ipFamilies and spec.ipFamilyPolicy"
	case plan.NoNode:
		return "its node " + pod.Spec.NodeName + " does not exist", "the pod goes with its node; delete it if it does not"
	case plan.Terminating:
		if plan.ReadyCondition(pod) {
			return "it is terminating: it gets new connections only where no other endpoint is ready", ""
		}
		return "it is terminating and not ready", ""
	case plan.NotReady:
		if x.service.Spec.PublishNotReadyAddresses {
			return "not ready, and in all the same: publishNotReadyAddresses", ""
		}
		return "it is not ready: " + cmp.Or(waitingFor(pod), "its readiness has not been told yet"), "kubectl describe pod " + pod.Name
	}
	return "it is ready", ""
}

// waitingFor is what the pod's conditions say it lacks.
func waitingFor(pod *corev1.Pod) string {
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodReady} {
		for _, c := range pod.Status.Conditions {
			if c.Type != kind || c.Status == corev1.ConditionTrue {
				continue
			}
			return strings.TrimSuffix(fmt.Sprintf("condition %s is %s, %s", kind, c.Status, strings.Join(nonEmpty(c.Reason, c.Message), ": ")), ", ")
		}
	}
	return ""
}

func nonEmpty(texts ...string) []string {
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

// mismatch are the requirements of a selector that labels do not meet.
func mismatch(selector labels.Selector, have map[string]string) string {
	requirements, _ := selector.Requirements()
	var out []string
	for _, r := range requirements {
		if r.Matches(labels.Set(have)) {
			continue
		}
		value, found := have[r.Key()]
		is := "it has no label " + r.Key()
		if found {
			is = "it has " + r.Key() + "=" + value
		}
		out = append(out, fmt.Sprintf("the group wants %s, and %s", r.String(), is))
	}
	return strings.Join(out, "; ")
}
