package describe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// Observed is what was read of a ServiceGroup.
type Observed struct {
	Group *v1alpha1.ServiceGroup
	// Service is the generated one; nil if there is none, or one that is not its own.
	Service *corev1.Service
	// Accepted is the spec that Service serves; nil if that cannot be read. Revision is its number, or 0.
	Accepted *v1alpha1.ServiceGroupSpec
	Revision int64
	// Slices are the EndpointSlices of Service.
	Slices []*discoveryv1.EndpointSlice
	// Pods are those of the namespace.
	Pods []*corev1.Pod
	// Nodes are all nodes, and Reports what the agents of nodes say they have programmed.
	Nodes   plan.Nodes
	Reports []Report
	// ReportsUnread says that nodes or Leases could not be read, so that Reports says nothing.
	ReportsUnread bool
	// Unread says what could not be read, and why.
	Unread []string
}

// Report is an agent's Lease.
type Report struct {
	Node       string
	Programmed plan.Revisions
	// Stale says that the agent has not renewed it in time: it is down.
	Stale bool
}

// served is what is served, or, while nothing is, what the spec asks for. The error is about a selector.
func (o *Observed) served() (plan.EntryPoint, error) { return plan.Resolve(o.servedSpec()) }

func (o *Observed) servedSpec() *v1alpha1.ServiceGroupSpec {
	if o.Service != nil && o.Accepted != nil {
		return o.Accepted
	}
	return &o.Group.Spec
}

// behind reports whether an older spec than the newest is served.
func (o *Observed) behind() bool {
	return o.Service != nil && o.Accepted != nil && plan.HashSpec(o.Accepted) != plan.HashSpec(&o.Group.Spec)
}

// Endpoint is an entry of an EndpointSlice.
type Endpoint struct {
	Address string `json:"address"`
	Pod     string `json:"pod,omitempty"`
	Node    string `json:"node,omitempty"`
	Zone    string `json:"zone,omitempty"`
	// Ports are the target ports, sorted.
	Ports []int32 `json:"ports,omitempty"`
	State State   `json:"state"`
}

// State is what an EndpointSlice says of an endpoint.
type State string

const (
	// Ready: it gets connections.
	Ready State = "ready"
	// Terminating: it gets connections only where no other one is ready.
	Terminating State = "terminating"
	// NotReady: it gets none.
	NotReady State = "not ready"
)

func stateOf(c discoveryv1.EndpointConditions) State {
	switch {
	case ptr.Deref(c.Ready, true):
		return Ready
	case ptr.Deref(c.Terminating, false) && ptr.Deref(c.Serving, true):
		return Terminating
	}
	return NotReady
}

// endpointsOf are the endpoints of a group, one for each address, ready ones first and then by name.
func endpointsOf(all []*discoveryv1.EndpointSlice, group string) []Endpoint {
	found := map[string]*Endpoint{}
	for _, slice := range all {
		if slice.Labels[v1alpha1.LabelGroup] != group {
			continue
		}
		for i := range slice.Endpoints {
			collectEndpoint(found, slice, &slice.Endpoints[i])
		}
	}
	out := make([]Endpoint, 0, len(found))
	for _, ep := range found {
		slices.Sort(ep.Ports)
		ep.Ports = slices.Compact(ep.Ports)
		out = append(out, *ep)
	}
	order := []State{Ready, Terminating, NotReady}
	slices.SortFunc(out, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.State), slices.Index(order, b.State)), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.Address, b.Address))
	})
	return out
}

func collectEndpoint(found map[string]*Endpoint, slice *discoveryv1.EndpointSlice, ep *discoveryv1.Endpoint) {
	if len(ep.Addresses) == 0 {
		return
	}
	one := found[ep.Addresses[0]]
	if one == nil {
		one = &Endpoint{
			Address: ep.Addresses[0], Node: ptr.Deref(ep.NodeName, ""), Zone: ptr.Deref(ep.Zone, ""), State: stateOf(ep.Conditions),
		}
		if ep.TargetRef != nil {
			one.Pod = ep.TargetRef.Name
		}
		found[ep.Addresses[0]] = one
	}
	for _, port := range slice.Ports {
		if port.Port != nil {
			one.Ports = append(one.Ports, *port.Port)
		}
	}
}

// portTitle is "80/TCP", with the name in front where there is one.
func portTitle(name string, port int32, protocol corev1.Protocol) string {
	title := fmt.Sprintf("%d/%s", port, cmp.Or(protocol, corev1.ProtocolTCP))
	if name != "" {
		return name + " " + title
	}
	return title
}

// selectorText is a selector as kubectl takes it with -l, or what an external group has in its place.
func selectorText(group *plan.Group) string {
	switch {
	case group.External != nil && group.External.Hostname != "":
		return "external " + group.External.Hostname
	case group.External != nil:
		return "external " + list(group.External.Addresses)
	case group.Selector != nil:
		return metav1.FormatLabelSelector(group.Selector)
	}
	return ""
}

// list joins a few names, and counts the rest.
func list(names []string) string {
	const most = 10
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
