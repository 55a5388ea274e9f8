package plan

import (
	"errors"
	"fmt"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// errNoRevision says that there is no accepted spec to go by.
var errNoRevision = errors.New("no ControllerRevision holds what the Service serves")

// Compute plans what to write next.
func Compute(s *Snapshot) (Plan, error) {
	switch {
	case s.Group.Spec.Paused:
		report := pausedReport(s.Group)
		return Plan{Report: &report}, nil
	case s.Service != nil && OwnershipOf(s.Service, s.Group) != Ours:
		return s.planForeign()
	}
	d, err := s.decide()
	if err != nil || d.step != nil || d.wait != "" {
		return Plan{Step: d.step, Wait: d.wait}, err
	}
	return s.planRest(d)
}

// decision is what to do about the Service.
type decision struct {
	step *Step
	wait Wait
	// refusal is why it is not as the newest spec asks, and lost why it is not as the accepted one asks
	// either.
	refusal, lost *Refusal
	settled       bool
}

// decide compares the Service with the newest spec, and where that is not to be had, with the one that
// was accepted last.
func (s *Snapshot) decide() (decision, error) {
	if s.Service != nil && !s.Service.DeletionTimestamp.IsZero() {
		return decision{}, nil // its end is an event, and then it comes back
	}
	var d decision
	if len(s.Newest.Problems) == 0 {
		newest, err := s.decideFrom(s.newest())
		if err != nil || newest.refusal == nil {
			return newest, err
		}
		d.refusal = newest.refusal
	}
	if s.Accepted == nil || s.Accepted.Hash == s.Newest.Hash && d.refusal != nil {
		return d, nil // there is no other to go by
	}
	accepted, err := s.decideFrom(s.accepted())
	accepted.refusal, accepted.lost = d.refusal, accepted.refusal
	return accepted, err
}

func (s *Snapshot) decideFrom(req serviceRequest) (decision, error) {
	answer := s.Answers[req.source]
	if answer.Refusal != nil {
		return decision{refusal: answer.Refusal}, nil
	}
	write, refusal, err := s.planService(req)
	switch {
	case err != nil:
		return decision{}, err
	case refusal != nil:
		return decision{step: &Step{Kind: StepRefuse, Write: ServiceWrite{Source: req.source}, Refusal: *refusal}}, nil
	case write == nil && req.source == FromNewest && (s.Accepted == nil || s.Accepted.Hash != s.Newest.Hash):
		return decision{step: &Step{Kind: StepAccept}}, nil
	case write == nil:
		return decision{settled: true}, nil
	case write.Live == nil && write.Restored && len(write.Want.Spec.ClusterIPs) > 1 && !answer.Waited:
		// The addresses of a deleted Service are released one after the other. Asked for both between, the API
		// server takes the one, fails with the other, and keeps the first for minutes (allocIPs in
		// registry/core/service/storage/alloc.go).
		return decision{wait: WaitRelease}, nil
	}
	return decision{step: &Step{Kind: StepWrite, Write: *write}}, nil
}

// newest asks for the Service of the newest spec, under the next revision unless it has one.
func (s *Snapshot) newest() serviceRequest {
	req := serviceRequest{Desired: Desired{Group: s.Group, Revision: s.NextRevision().Name, Had: s.Had()}, source: FromNewest}
	if s.Accepted != nil && s.Accepted.Hash == s.Newest.Hash {
		req.Revision = s.Accepted.Name
	}
	req.fresh = s.Accepted == nil && s.Service != nil && Adopted(s.Service, s.Group)
	return req
}

// accepted asks for the Service of the spec that was accepted last.
func (s *Snapshot) accepted() serviceRequest {
	return serviceRequest{
		Desired: Desired{Group: s.servedGroup(), Revision: s.Accepted.Name, Had: s.Had()}, source: FromAccepted,
	}
}

// servedGroup is the ServiceGroup with the spec that was accepted last.
func (s *Snapshot) servedGroup() *v1alpha1.ServiceGroup {
	out := *s.Group
	out.Spec = *s.Accepted.Spec
	return &out
}

// Had are the addresses and numbers that the entry point had.
func (s *Snapshot) Had() Allocated {
	if s.Accepted != nil {
		return s.Accepted.Allocated
	}
	return AllocatedIn(&s.Group.Status)
}

// NextRevision is the revision under which a spec is stored that is accepted now.
func (s *Snapshot) NextRevision() Revision {
	number := int64(1)
	if n := len(s.Revisions); n > 0 {
		number = s.Revisions[n-1].Number + 1
	}
	if s.Accepted != nil && s.Accepted.Stored && s.Accepted.Number >= number {
		number = s.Accepted.Number + 1
	}
	return Revision{Name: RevisionName(s.Group.Name, number), Number: number, Hash: s.Newest.Hash}
}

// AcceptNewest is the newest spec once the API server took it.
func (s *Snapshot) AcceptNewest() Accepted {
	if s.Accepted != nil && s.Accepted.Hash == s.Newest.Hash {
		return *s.Accepted
	}
	accepted := Accepted{Revision: s.NextRevision(), Spec: &s.Group.Spec, Entry: s.Newest.Entry}
	accepted.Allocated = s.Had()
	return accepted
}

// ServedEntry is the entry point whose endpoints are to be written: that of the accepted spec, or of the newest
// one where its Service is about to be adopted, and the hash of that spec.
func (s *Snapshot) ServedEntry() (entry EntryPoint, hash string) {
	if s.adopts() {
		return s.Newest.Entry, s.Newest.Hash
	}
	return s.Accepted.Entry, s.Accepted.Hash
}

// Targets are the Services whose EndpointSlices are to be written.
func (s *Snapshot) Targets() []Target {
	if s.adopts() {
		return []Target{{Service: PreparedService(s.Service, s.adoptionWrite().Want)}}
	}
	targets := []Target{{Service: s.Service}}
	for i := range s.Accepted.Entry.Groups {
		group := s.Accepted.Entry.Groups[i].Name
		svc := s.Exposed[ExposedName(s.Group.Name, group)]
		if s.Accepted.Entry.ExposeGroups && svc != nil && OwnershipOf(svc, s.Group) == Ours {
			targets = append(targets, Target{Service: svc, Group: group})
		}
	}
	return targets
}

// adopts reports whether the Service is somebody else's that is to be adopted.
func (s *Snapshot) adopts() bool { return OwnershipOf(s.Service, s.Group) != Ours }

// planRest plans what is behind the Service, the revisions and the status.
func (s *Snapshot) planRest(d decision) (Plan, error) {
	p := Plan{Settled: d.settled}
	o := Outcome{Group: s.Group, Problems: s.Newest.Problems, Refusal: d.refusal, Lost: d.lost, Service: s.Service}
	switch {
	case s.Service == nil:
	case s.Accepted == nil:
		// There is nothing to build the slices from: they stay as they are until a spec is accepted.
		if o.Unreadable = s.Unreadable; o.Unreadable == nil {
			o.Unreadable = errNoRevision
		}
	default:
		b, err := s.Look()
		if err != nil {
			return Plan{}, err
		}
		if b.Lagging {
			return Plan{Wait: WaitCaches}, nil
		}
		b.Members, o.Trimmed = trim(b.Members, b.Entry, s.Budgets.Endpoints, b.Targets[0].Slices)
		o.Entry, o.Members = b.Entry, b.Members
		if err := s.planBehind(&p, &o, b); err != nil {
			return Plan{}, err
		}
		s.planRevisions(&p)
	}
	s.report(&p, o)
	return p, nil
}

// planBehind plans the Services of the groups and all EndpointSlices.
func (s *Snapshot) planBehind(p *Plan, o *Outcome, b *Behind) error {
	wanted := ExposedServices(s.servedGroup(), s.Service, b.Entry)
	for i := range wanted {
		write, refusal, err := s.planExposed(&wanted[i])
		switch {
		case err != nil:
			return fmt.Errorf("exposing group %s: %w", wanted[i].Group, err)
		case refusal != nil:
			o.Unexposed = append(o.Unexposed, *refusal)
			if s.Answers[FromGroup(wanted[i].Group)].Refusal == nil {
				p.Refused = append(p.Refused, GroupRefusal{wanted[i].Group, *refusal})
			}
		case write != nil:
			p.Exposed = append(p.Exposed, *write)
		}
	}
	p.Surplus = SurplusExposed(s.Exposed, s.Group, wanted)
	for i := range b.Targets {
		target := &b.Targets[i]
		if p.writesGroup(target.Group) { // its slices follow the Service as it will be
			p.Slices, p.Memos = append(p.Slices, Slices{Final: target.Slices}), append(p.Memos, nil)
			continue
		}
		changes, memo := b.SlicesOf(target)
		p.Slices, p.Memos = append(p.Slices, changes), append(p.Memos, memo)
	}
	o.Slices = p.Slices[0].Final
	return nil
}

// planRevisions records what is served. The first revision can wait until everything is served; there
// is nothing before it to fall back to.
func (s *Snapshot) planRevisions(p *Plan) {
	if !p.Settled {
		return
	}
	accepted := *s.Accepted
	accepted.Allocated = AllocatedTo(s.Service, accepted.Allocated)
	switch {
	case !accepted.Stored && (p.Empty() || len(s.Revisions) > 0):
		p.Revision = &accepted
		if surplus := len(s.Revisions) + 1 - RevisionHistory; surplus > 0 {
			p.Outdated = s.Revisions[:surplus]
		}
	case accepted.Stored && !accepted.Allocated.Equal(s.Accepted.Allocated):
		p.Reallocated = &accepted
	}
	p.Lost = s.Accepted.Allocated.lostTo(accepted.Allocated, accepted.Spec)
}

// report adds the status, unless it would be a guess.
func (s *Snapshot) report(p *Plan, o Outcome) {
	if undecided(o) {
		return // the end of the look-up is an event
	}
	if p.Empty() && s.Programming != nil {
		o.Programming = s.programming(&o)
	}
	report := ReportOf(o)
	p.Report = &report
}

// programming asks how far the agents are with what is served.
func (s *Snapshot) programming(o *Outcome) *Programming {
	switch {
	case o.Service == nil || len(o.Problems) > 0 || o.Refusal != nil:
		return s.Programming(nil, nil)
	case !HandedToAgents(o.Service):
		none := s.Programming(nil, nil)
		none.Others = true
		return none
	}
	return s.Programming(o.Service, o.Slices)
}

// planExposed plans the Service of one group.
func (s *Snapshot) planExposed(want *Exposed) (*ServiceWrite, *Refusal, error) {
	live, source := s.Exposed[*want.Service.Name], FromGroup(want.Group)
	write := &ServiceWrite{Live: live, Want: want.Service, Source: source, Desired: Desired{Group: s.Group}}
	if live != nil {
		if OwnershipOf(live, s.Group) != Ours {
			refusal := ExposedTaken(live, s.Group)
			return nil, &refusal, nil
		}
		diff, err := DiffExposed(live, want.Service)
		if err != nil {
			return nil, nil, err
		}
		if diff.Empty() || !live.DeletionTimestamp.IsZero() {
			return nil, nil, nil
		}
		write.Repair = diff.Repair
	}
	if refusal := s.Answers[source].Refusal; refusal != nil {
		return nil, refusal, nil
	}
	return write, nil, nil
}
