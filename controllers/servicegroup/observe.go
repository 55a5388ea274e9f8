package servicegroup

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// observe takes a snapshot of a ServiceGroup; nil if there is none to bring in line.
func (r *Reconciler) observe(ctx context.Context, key types.NamespacedName) (*plan.Snapshot, error) {
	sg, err := r.getGroup(ctx, key)
	if err != nil || sg == nil {
		return nil, err
	}
	s := &plan.Snapshot{Group: sg, NodePorts: r.options.NodePortRange, Budgets: r.options.Budgets}
	if sg.Spec.Paused {
		return s, nil
	}
	s.Newest = r.specs.newest(key, sg)
	if err := r.observeService(ctx, s); err != nil {
		return nil, err
	}
	if err := r.observeRevisions(ctx, s); err != nil {
		return nil, err
	}
	if err := r.observeExposed(ctx, s); err != nil {
		return nil, err
	}
	if err := r.observeAnswers(ctx, s); err != nil {
		return nil, err
	}
	s.Look = func() (*plan.Behind, error) { return r.observeBehind(ctx, s) }
	if r.agents != nil {
		s.Programming = func(svc *corev1.Service, written []*discoveryv1.EndpointSlice) *plan.Programming {
			if svc == nil {
				r.agents.forget(key)
				return &plan.Programming{}
			}
			return r.agents.programming(sg, svc, written)
		}
	}
	return s, nil
}

// observeService gets the Service of the ServiceGroup's name.
func (r *Reconciler) observeService(ctx context.Context, s *plan.Snapshot) error {
	key := client.ObjectKeyFromObject(s.Group)
	// What we are not going to write cannot tell us, by a conflict, that somebody else has the name.
	svc, err := r.getService(ctx, key, key, len(s.Newest.Problems) > 0 || plan.AsksToAdopt(s.Group))
	if err != nil {
		return err
	}
	if svc == nil {
		r.index.set(key, nil)
		r.prober.Forget(key)
		return nil
	}
	s.Service = svc
	if plan.OwnershipOf(svc, s.Group) == plan.Ours || !plan.ToAdopt(svc, s.Group) {
		return nil
	}
	s.Service = &corev1.Service{} // with all of its managed fields, which the cache has not
	if err := r.live.Get(ctx, key, s.Service); err != nil {
		return fmt.Errorf("getting the Service to adopt: %w", err)
	}
	s.Adoption = r.observeAdoption(s)
	return nil
}

// getService gets a Service, known by another key, from the cache. It asks the API server for
// one that is not there if the caller must be sure, or if there was reason to think that the cache
// does not show it: it lags, and does not hold Services without our label. Otherwise a Service that
// exists all the same is a conflict when ours is created, and the next look is at the API server.
func (r *Reconciler) getService(ctx context.Context, key, known types.NamespacedName, sure bool) (*corev1.Service, error) {
	svc := &corev1.Service{}
	err := r.client.Get(ctx, key, svc)
	if apierrors.IsNotFound(err) {
		if !sure && !r.writes.mayBeHidden(known) {
			return nil, nil
		}
		err = r.live.Get(ctx, key, svc)
		r.writes.found(known, !apierrors.IsNotFound(err))
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("getting Service: %w", err)
	}
	return r.writes.latestService(known, svc), nil
}

// observeExposed gets the Services of the groups: those that are to be, and those that are.
func (r *Reconciler) observeExposed(ctx context.Context, s *plan.Snapshot) error {
	key := client.ObjectKeyFromObject(s.Group)
	if s.Service == nil {
		return nil
	}
	var found corev1.ServiceList
	if err := r.client.List(ctx, &found, client.InNamespace(key.Namespace), client.MatchingFields{fieldGroup: key.Name}); err != nil {
		return fmt.Errorf("listing the Services of groups: %w", err)
	}
	s.Exposed = make(map[string]*corev1.Service, len(found.Items))
	for i := range found.Items {
		s.Exposed[found.Items[i].Name] = &found.Items[i]
	}
	if s.Accepted == nil {
		return nil
	}
	r.forgetUnexposed(s)
	if !s.Accepted.Entry.ExposeGroups {
		return nil
	}
	for i := range s.Accepted.Entry.Groups {
		group := s.Accepted.Entry.Groups[i].Name
		r.expose(key, group)
		name := types.NamespacedName{Namespace: key.Namespace, Name: plan.ExposedName(key.Name, group)}
		svc, err := r.getService(ctx, name, serviceKey(key, group), false)
		if err != nil {
			return fmt.Errorf("exposing group %s: %w", group, err)
		}
		if svc != nil {
			s.Exposed[svc.Name] = svc
		}
	}
	return nil
}

// observeAnswers recalls what the API server answered before.
func (r *Reconciler) observeAnswers(ctx context.Context, s *plan.Snapshot) error {
	key := client.ObjectKeyFromObject(s.Group)
	s.Answers = plan.Answers{}
	sources := []plan.Source{plan.FromNewest, plan.FromAccepted, plan.FromAdoption, plan.FromName}
	for _, group := range r.exposedGroups(key) {
		sources = append(sources, plan.FromGroup(group))
	}
	held := 0
	for _, source := range sources {
		s.Answers[source] = r.tries.answer(key, source, attemptOf(s, source))
		if s.Answers[source].Refusal == nil { // else nothing is asked for until it is time to try again
			held = max(held, len(s.Answers[source].NodePorts))
		}
	}
	if held == 0 {
		return nil
	}
	claimed, err := r.claims.list(ctx, r.live, r.options.Clock, held > 1)
	if err != nil {
		return err
	}
	s.Held = claimed.nodePortsOfOthers(key)
	return nil
}

// attemptOf identifies a try of a source.
func attemptOf(s *plan.Snapshot, source plan.Source) attempt {
	a := attempt{group: s.Group.UID, generation: s.Group.Generation}
	svc := s.Service
	switch group, exposed := source.Group(); {
	case exposed:
		svc = s.Exposed[plan.ExposedName(s.Group.Name, group)]
	case source == plan.FromAccepted && s.Accepted != nil:
		a.generation = s.Accepted.Number
	}
	if svc != nil {
		a.service = svc.UID
	}
	return a
}
