package plan

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// Source says what a Service is written from. The Service of a group has a source of its own
// (FromGroup).
type Source string

const (
	// FromNewest: the spec that the ServiceGroup has.
	FromNewest Source = "Newest"
	// FromAccepted: the spec that was accepted last, while the newest one is not.
	FromAccepted Source = "Accepted"
	// FromAdoption: the newest spec, for a Service that somebody else made.
	FromAdoption Source = "Adoption"
	// FromName: nothing, since the name is somebody else's.
	FromName Source = "Name"
)

// FromGroup is the source of the Service of a group.
func FromGroup(group string) Source { return Source(groupPrefix + group) }

const groupPrefix = "Group/"

// Group is the group of a source; false if it is no group's.
func (s Source) Group() (string, bool) { return strings.CutPrefix(string(s), groupPrefix) }

// ServiceWrite is a Service to write.
type ServiceWrite struct {
	// Live is the Service as it is; nil if there is none.
	Live *corev1.Service
	Want *corev1ac.ServiceApplyConfiguration
	// Repair reports whether RepairPatch has to come first.
	Repair bool
	// Source is where Want comes from, Desired what it is made of.
	Source Source
	Desired
	// Restored reports whether Want asks for addresses or numbers that the entry point had, which others
	// may hold by now.
	Restored bool
	// Chosen are the nodePorts of Want that the operator chose.
	Chosen map[int32]bool
}

// serviceRequest is a spec of which a Service is to be.
type serviceRequest struct {
	Desired
	source Source
	// fresh reports whether the Service was just adopted, so that it has nodePorts of its own.
	fresh bool
}

// planService computes the write that makes the Service of the snapshot as a spec asks; nil if it is
// so already. The refusal says that it cannot be.
func (s *Snapshot) planService(req serviceRequest) (*ServiceWrite, *Refusal, error) {
	live, sg, answer := s.Service, req.Group, s.Answers[req.source]
	if live != nil {
		if refusal := HeadlessChange(live, &sg.Spec); refusal != nil {
			return nil, refusal, nil
		}
		if req.fresh {
			sg = KeepNodePorts(sg, live)
		}
		sg = KeepSecondFamily(sg, live)
	}
	numbered, full := NodePorts(NodePortRequest{
		Group: sg, Had: req.Had, Live: live, Range: s.NodePorts, Taken: s.Held, Refused: answer.NodePorts,
	})
	if full != nil {
		return nil, &Refusal{Reason: v1alpha1.ReasonNodePortUnavailable, Message: full.Error()}, nil //nolint:nilerr // it is the refusal
	}
	want := Desired{Group: numbered, Revision: req.Revision, Had: req.Had}
	write := &ServiceWrite{Live: live, Source: req.source, Desired: req.Desired, Chosen: chosen(sg, numbered)}
	diff := ServiceDiff{Apply: true}
	if live != nil {
		var err error
		if diff, err = DiffService(live, want); err != nil {
			return nil, nil, err
		}
	}
	if answer.Lost { // it comes back with others, or keeps those that it has by now
		diff.Restore = false
	}
	if diff.Empty() {
		return nil, nil, nil
	}
	write.Repair = diff.Repair
	write.Want = Service(want)
	if (live == nil || diff.Restore) && !answer.Lost {
		write.Want, write.Restored = RestoredService(want, live)
	}
	return write, nil, nil
}

// chosen are the nodePorts that the user did not ask for.
func chosen(asked, numbered *v1alpha1.ServiceGroup) map[int32]bool {
	out := map[int32]bool{}
	for i := range numbered.Spec.Ports {
		if number := numbered.Spec.Ports[i].NodePort; number != 0 && asked.Spec.Ports[i].NodePort == 0 {
			out[number] = true
		}
	}
	for i := range asked.Spec.Ports {
		delete(out, asked.Spec.Ports[i].NodePort)
	}
	return out
}
