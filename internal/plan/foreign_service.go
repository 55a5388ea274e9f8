package plan

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// planForeign plans what to do with a Service of the wanted name that is not ours: it stays as it is unless
// the ServiceGroup asks for it. Then, step by step, so that its clients notice nothing (docs/adoption.md):
//
//  1. a dry run: what the API server would refuse is refused before anything is touched;
//  2. our EndpointSlices, which nobody follows yet, and a while for them to reach the nodes;
//  3. the word to the agents to serve it too, and a while for them to do so;
//  4. the claim of its fields, which changes nothing that anybody follows, and one server-side apply:
//     selector out, owner in, and the label by which the old proxy lets go.
func (s *Snapshot) planForeign() (Plan, error) {
	refusal, source := nameRefusal(s.Service, s.Group), FromName
	if refusal == nil {
		refusal, source = s.Answers[FromAdoption].Refusal, FromAdoption
	}
	if refusal != nil || len(s.Newest.Problems) > 0 {
		return s.planRefused(refusal, source), nil
	}
	write := s.adoptionWrite()
	if !s.Adoption.Tried {
		return Plan{Step: &Step{Kind: StepTry, Write: write}}, nil
	}
	b, err := s.Look()
	if err != nil {
		return Plan{}, err
	}
	if b.Lagging {
		return Plan{Wait: WaitCaches}, nil
	}
	changes, _ := b.SlicesOf(&b.Targets[0])
	_, agents := write.Want.Labels[v1alpha1.LabelServiceProxyName] // else it has no virtual IP, or keeps its proxy
	step := func(kind StepKind) (Plan, error) {
		return Plan{Step: &Step{Kind: kind, Write: write, Slices: changes}}, nil
	}
	switch {
	case !s.Adoption.Begun || !changes.Empty():
		return step(StepPrepare)
	case !s.Adoption.Prepared:
		return Plan{Wait: WaitAdoption}, nil
	case agents && !Announced(s.Service):
		return step(StepAnnounce)
	case agents && !s.Adoption.Announced:
		return Plan{Wait: WaitAdoption}, nil
	}
	return step(StepTakeOver)
}

// planRefused plans for a Service that is not adopted: what was done for it is taken back.
func (s *Snapshot) planRefused(refusal *Refusal, source Source) Plan {
	if s.Adoption.Begun || Announced(s.Service) {
		return Plan{Step: &Step{Kind: StepAbandon}}
	}
	if known := s.Answers[source].Refusal; refusal != nil && (known == nil || *known != *refusal) {
		return Plan{Step: &Step{Kind: StepRefuse, Write: ServiceWrite{Source: source}, Refusal: *refusal}}
	}
	var p Plan
	s.report(&p, Outcome{Group: s.Group, Problems: s.Newest.Problems, Refusal: refusal})
	return p
}

// adoptionWrite is the Service as it is to be once it is adopted.
func (s *Snapshot) adoptionWrite() ServiceWrite {
	kept := KeepSecondFamily(KeepNodePorts(s.Group, s.Service), s.Service)
	numbered, err := NodePorts(NodePortRequest{
		Group: kept, Live: s.Service, Range: s.NodePorts, Taken: s.Held, Refused: s.Answers[FromAdoption].NodePorts,
	})
	if err != nil {
		numbered = kept // the API server gives what is missing
	}
	desired := Desired{Group: numbered, Revision: s.NextRevision().Name, Had: AllocatedTo(s.Service, Allocated{})}
	return ServiceWrite{Live: s.Service, Want: Service(desired), Source: FromAdoption, Desired: desired, Chosen: chosen(kept, numbered)}
}

// ToAdopt reports whether a Service that is not the ServiceGroup's is to be adopted.
func ToAdopt(svc *corev1.Service, sg *v1alpha1.ServiceGroup) bool { return nameRefusal(svc, sg) == nil }

// nameRefusal is why a Service that is not the ServiceGroup's is left alone; nil if it is to be adopted.
func nameRefusal(svc *corev1.Service, sg *v1alpha1.ServiceGroup) *Refusal {
	if OwnershipOf(svc, sg) == Predecessors {
		return &Refusal{
			Reason: v1alpha1.ReasonNameTaken,
			Message: fmt.Sprintf("metadata.name: %s: the Service of a deleted ServiceGroup of this name still exists; "+
				"nothing to do if the garbage collector is about to remove it, otherwise delete Service %s", svc.Name, svc.Name),
		}
	}
	return AdoptionRefusal(svc, sg)
}
