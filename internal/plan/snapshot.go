package plan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// Snapshot is what was observed of a ServiceGroup at one moment. Compute makes a plan of it.
type Snapshot struct {
	Group  *v1alpha1.ServiceGroup
	Newest Newest
	// Accepted is the spec that was accepted last; nil where there is none that can be read.
	Accepted *Accepted
	// Unreadable is why the ControllerRevision of the accepted spec cannot be read; nil if it can.
	Unreadable error
	// Revisions are those stored, the oldest first.
	Revisions []Revision
	// Service is the one of the ServiceGroup's name, whoever made it; nil if there is none.
	Service *corev1.Service
	// Exposed are the Services of groups that exist, by their names.
	Exposed map[string]*corev1.Service
	Answers Answers
	// Held are the NodePorts that others hold, as far as known.
	Held map[int32]bool
	// Adoption is how far the adoption of Service is, where it is not the ServiceGroup's own.
	Adoption Adoption
	// NodePorts is the range of --node-port-range.
	NodePorts NodePortRange
	Budgets   Budgets
	// Look looks at what is behind the Service. It is called only where there is nothing to do about the
	// Service itself first.
	Look func() (*Behind, error)
	// Programming asks how far the agents are with what is written; nil where nobody asks them. It is
	// asked only when there is nothing left to write, since what it is asked about is waited for. Asked
	// about no Service, it waits for nothing.
	Programming func(*corev1.Service, []*discoveryv1.EndpointSlice) *Programming
}

// Newest is the spec that a ServiceGroup has.
type Newest struct {
	Hash     string
	Problems []Problem
	// Entry is the spec resolved, where it has no problems.
	Entry EntryPoint
}

// Answers are what the API server answered to the tries of each source, while it is too early to try
// again.
type Answers map[Source]Answer

// Answer is what became of the tries of one source.
type Answer struct {
	// Refusal is why it could not be written; nil while that is not known.
	Refusal *Refusal
	// NodePorts are numbers of the operator's choice that others hold.
	NodePorts map[int32]bool
	// Waited reports whether the release of addresses that are to be restored was waited for, and
	// Lost that they were not to be had all the same.
	Waited, Lost bool
}

// Adoption is how far the adoption of a Service is. Each step has reached the nodes when it is done.
type Adoption struct {
	// Tried reports whether the API server would take the Service (a dry run).
	Tried bool
	// Begun reports whether EndpointSlices were written for it, Prepared whether they had their time to
	// reach the nodes, and Announced the same of the word to the agents.
	Begun, Prepared, Announced bool
}

// Behind is what is behind the Services of a ServiceGroup.
type Behind struct {
	// Entry is what they serve, and EntryHash that of its spec.
	Entry     EntryPoint
	EntryHash string
	// Targets are the ServiceGroup's own Service, and those of its groups that exist.
	Targets []Target
	Members []Membership
	Nodes   Nodes
	// Lagging reports whether the cache does not show our last writes yet: planning from it would
	// create EndpointSlices twice.
	Lagging bool
}

// Target is a Service with its EndpointSlices.
type Target struct {
	Service *corev1.Service
	// Group is the group of an exposed Service; empty for the ServiceGroup's own.
	Group  string
	Slices []*discoveryv1.EndpointSlice
	// Trigger is when its pods last changed, as the API writes times; empty if that is not known.
	Trigger string
	// Settled is what is remembered of its groups.
	Settled Memo
}

// Plan is what to write now. A step comes alone: its answer decides what comes next, and that is
// planned from another snapshot.
type Plan struct {
	Step *Step
	// Wait is what there is to wait for before anything else; empty is nothing.
	Wait Wait

	// Exposed are the Services of groups to write, Refused those whose names are somebody else's, to be
	// looked at again, and Surplus those to delete.
	Exposed []ServiceWrite
	Refused []GroupRefusal
	Surplus []*corev1.Service
	// Slices are the changes to the EndpointSlices of each target of the snapshot, and Memos what is to be
	// remembered of it.
	Slices []Slices
	Memos  []Memo
	// Revision is to be stored, Reallocated has other addresses than its ControllerRevision says, and
	// Outdated are revisions to delete.
	Revision, Reallocated *Accepted
	Outdated              []Revision
	// Lost names addresses and numbers that the entry point had, and others hold by now.
	Lost string
	// Report is the status; nil if it cannot be told yet.
	Report *Report
	// Settled reports whether the Service is as it is to be, so that refusals of the past do not count.
	Settled bool
}

// GroupRefusal is why the Service of a group is not to be written.
type GroupRefusal struct {
	Group   string
	Refusal Refusal
}

// Wait says what is waited for.
type Wait string

const (
	// WaitCaches: for the caches to show our own writes.
	WaitCaches Wait = "Caches"
	// WaitAdoption: for a step of an adoption to reach the nodes.
	WaitAdoption Wait = "Adoption"
	// WaitRelease: for addresses of a Service that is gone to be released.
	WaitRelease Wait = "Release"
	// WaitEvent: for something that is an event.
	WaitEvent Wait = "Event"
)

// StepKind says what a step does.
type StepKind string

const (
	// StepWrite writes the Service.
	StepWrite StepKind = "Write"
	// StepAccept takes note that the Service is as the newest spec asks.
	StepAccept StepKind = "Accept"
	// StepRefuse takes note of a refusal that needs no question to the API server.
	StepRefuse StepKind = "Refuse"
	// StepTry asks the API server whether it would take the Service of an adoption.
	StepTry StepKind = "Try"
	// StepPrepare writes the EndpointSlices of an adoption, before the Service is touched.
	StepPrepare StepKind = "Prepare"
	// StepAnnounce tells the agents to serve the Service of an adoption too.
	StepAnnounce StepKind = "Announce"
	// StepTakeOver makes the Service of an adoption ours.
	StepTakeOver StepKind = "TakeOver"
	// StepAbandon takes back what was done for an adoption.
	StepAbandon StepKind = "Abandon"
)

// Step is a write to the Service whose answer decides what comes next.
type Step struct {
	Kind  StepKind
	Write ServiceWrite
	// Slices are those of StepPrepare.
	Slices Slices
	// Refusal is that of StepRefuse.
	Refusal Refusal
}

// writesGroup reports whether the Service of a group is to be written.
func (p *Plan) writesGroup(group string) bool {
	return slices.ContainsFunc(p.Exposed, func(w ServiceWrite) bool { return w.Source == FromGroup(group) })
}

// SettlesGroup reports whether there is nothing to do about the Service of a group.
func (p *Plan) SettlesGroup(group string) bool {
	return !p.writesGroup(group) && !slices.ContainsFunc(p.Refused, func(r GroupRefusal) bool { return r.Group == group })
}

// Empty reports whether the plan leaves everything that is served as it is.
func (p *Plan) Empty() bool {
	if len(p.Exposed)+len(p.Surplus) > 0 {
		return false
	}
	for i := range p.Slices {
		if !p.Slices[i].Empty() {
			return false
		}
	}
	return true
}
