package servicegroup

import (
	"context"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

const (
	// lateAfter is how long agents may take before the condition names those that are behind.
	lateAfter = 15 * time.Second
	// lookAgain is how soon a ServiceGroup that is not programmed is looked at again when no agent
	// reports anything: one may have stopped reporting, and then does not count.
	lookAgain = 10 * time.Second
	// gather is how long reports are gathered before the ServiceGroups that wait for them are looked
	// at, since on a big cluster they come in by the thousand.
	gather = 100 * time.Millisecond
)

// LeaseCache are the cache options for the agents' Leases in a namespace, to be added to CacheOptions
// where Options.LeaseNamespace is set.
func LeaseCache(namespace string) cache.ByObject {
	return cache.ByObject{
		Namespaces: map[string]cache.Config{namespace: {}},
		Label:      labels.SelectorFromSet(labels.Set{v1alpha1.LabelAgent: "true"}),
	}
}

// agents knows what every agent has programmed, and which ServiceGroups wait for them.
type agents struct {
	clock clock.PassiveClock

	mu      sync.Mutex
	reports map[string]agentReport // by node
	waiting map[types.NamespacedName]waitingGroup
}

type agentReport struct {
	programmed plan.Revisions
	validUntil time.Time
}

// waitingGroup is what has to be programmed of a ServiceGroup. It is taken down once for each
// generation: with pods coming and going all the time, a target that moved might never be reached.
type waitingGroup struct {
	generation int64
	want       plan.Revisions
	since      time.Time
	// done says that every agent had it. It is known until status says so.
	done bool
}

func newAgents(clock clock.PassiveClock) *agents {
	return &agents{clock: clock, reports: map[string]agentReport{}, waiting: map[types.NamespacedName]waitingGroup{}}
}

// set takes note of an agent's Lease.
func (a *agents) set(lease *coordinationv1.Lease) {
	node, ok := plan.NodeOfLease(lease.Name)
	if !ok || lease.Spec.RenewTime == nil || lease.Spec.LeaseDurationSeconds == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reports[node] = agentReport{
		programmed: plan.Revisions{
			Services:       lease.Annotations[v1alpha1.AnnotationServices],
			EndpointSlices: lease.Annotations[v1alpha1.AnnotationEndpointSlices],
		},
		validUntil: lease.Spec.RenewTime.Add(time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second),
	}
}

func (a *agents) delete(lease *coordinationv1.Lease) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if node, ok := plan.NodeOfLease(lease.Name); ok {
		delete(a.reports, node)
	}
}

// programming says how far the agents are with what is written for a ServiceGroup. A node that has
// stopped reporting does not count: it is down, or it has no agent any more.
func (a *agents) programming(sg *v1alpha1.ServiceGroup, service *corev1.Service, written []*discoveryv1.EndpointSlice) *plan.Programming {
	key, now := client.ObjectKeyFromObject(sg), a.clock.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	wait, found := a.waiting[key]
	found = found && wait.generation == sg.Generation
	if plan.IsProgrammed(sg) && (!found || wait.done) { // else it is not we who wrote that
		delete(a.waiting, key)
		return &plan.Programming{Agents: max(1, len(a.reports))}
	}
	if !found {
		wait = waitingGroup{generation: sg.Generation, want: plan.RevisionsOf(service, written), since: now}
	}
	out := &plan.Programming{Late: now.Sub(wait.since) >= lateAfter}
	for node, report := range a.reports {
		if now.After(report.validUntil) {
			continue
		}
		out.Agents++
		if !report.programmed.Covers(wait.want) {
			out.Behind = append(out.Behind, node)
		}
	}
	wait.done = out.Agents > 0 && len(out.Behind) == 0
	a.waiting[key] = wait
	return out
}

// programming asks the agents how far they are with what was written, if they are asked at all.
func (r *Reconciler) programming(o *plan.Outcome) *plan.Programming {
	if r.agents == nil {
		return nil
	}
	if o.Service == nil || len(o.Problems) > 0 || o.Refusal != nil {
		r.agents.forget(client.ObjectKeyFromObject(o.Group))
		return &plan.Programming{}
	}
	if !plan.HandedToAgents(o.Service) {
		r.agents.forget(client.ObjectKeyFromObject(o.Group))
		return &plan.Programming{Others: true}
	}
	return r.agents.programming(o.Group, o.Service, o.Slices)
}

// forget drops a ServiceGroup that is gone or whose spec is not accepted.
func (a *agents) forget(key types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, key)
}

func (a *agents) waitingGroups() []types.NamespacedName {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]types.NamespacedName, 0, len(a.waiting))
	for key := range a.waiting {
		out = append(out, key)
	}
	return out
}

// leaseHandler takes note of reports and wakes the ServiceGroups that wait for them.
func (a *agents) leaseHandler() handler.TypedFuncs[*coordinationv1.Lease, reconcile.Request] {
	wake := func(q queue) {
		for _, key := range a.waitingGroups() {
			q.AddAfter(reconcile.Request{NamespacedName: key}, gather)
		}
	}
	return handler.TypedFuncs[*coordinationv1.Lease, reconcile.Request]{
		CreateFunc: func(_ context.Context, e event.TypedCreateEvent[*coordinationv1.Lease], q queue) {
			a.set(e.Object)
			wake(q)
		},
		UpdateFunc: func(_ context.Context, e event.TypedUpdateEvent[*coordinationv1.Lease], q queue) {
			a.set(e.ObjectNew)
			wake(q)
		},
		DeleteFunc: func(_ context.Context, e event.TypedDeleteEvent[*coordinationv1.Lease], q queue) {
			a.delete(e.Object)
			wake(q)
		},
	}
}
