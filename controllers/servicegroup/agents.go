package servicegroup

import (
	"maps"
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

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

const (
	// lateAfter is how long agents may take before the condition names those that are behind.
	lateAfter = 15 * time.Second
	// lookAgainMax bounds how old the names in that condition may be. They are looked at again when as much time
	// has passed again.
	lookAgainMax = 5 * time.Minute
	// longestLease bounds how long an agent counts that does not renew its Lease, whatever that says.
	longestLease = 10 * time.Minute
	// expiryCheck is how often agents are looked for that have stopped reporting.
	expiryCheck = 5 * time.Second
)

// LeaseCache are the cache options for the agents' Leases in a namespace, to be added to CacheOptions
// where Options.LeaseNamespace is set.
func LeaseCache(namespace string) cache.ByObject {
	return cache.ByObject{
		Namespaces: map[string]cache.Config{namespace: {}},
		Label:      labels.SelectorFromSet(labels.Set{v1alpha1.LabelAgent: "true"}),
	}
}

// agents knows what every agent has programmed, and which ServiceGroups wait for them. A report costs
// O(log n) and wakes the ServiceGroups for which it was the last that they waited for.
type agents struct {
	clock clock.PassiveClock

	mu      sync.Mutex
	reports map[string]*agentReport // by node
	// expiry has the reports by when they end.
	expiry *ordered[*agentReport]
	// kinds are Services and EndpointSlices: their resource versions do not compare.
	kinds    []*kindProgress
	waiting  map[types.NamespacedName]*waitingGroup
	removals map[types.NamespacedName]*removals
}

// kindProgress compares what agents have programmed of a kind with what ServiceGroups wait for.
type kindProgress struct {
	of func(*plan.Revisions) *string
	// agents has the one that is furthest behind first, waits what is reached next.
	agents *ordered[*agentReport]
	waits  *ordered[*waitingGroup]
}

type agentReport struct {
	node       string
	programmed plan.Revisions
	validUntil time.Time
}

// waitingGroup is what has to be programmed of a ServiceGroup. It is taken down once for each
// generation: with pods coming and going all the time, a target that moved might never be reached.
type waitingGroup struct {
	key        types.NamespacedName
	generation int64
	want       plan.Revisions
	// removing are the EndpointSlices that were deleted, until the event of that says at which revision.
	removing map[types.UID]bool
	since    time.Time
	// done says that every agent had it. It is known until status says so.
	done bool
}

// removals are the deletions of a ServiceGroup's EndpointSlices.
type removals struct {
	pending map[types.UID]bool
	// newest is the revision of the newest that is known.
	newest string
}

func newAgents(clock clock.PassiveClock) *agents {
	a := &agents{
		clock:    clock,
		reports:  map[string]*agentReport{},
		expiry:   newOrdered(func(a, b *agentReport) bool { return a.validUntil.Before(b.validUntil) }),
		waiting:  map[types.NamespacedName]*waitingGroup{},
		removals: map[types.NamespacedName]*removals{},
	}
	for _, of := range []func(*plan.Revisions) *string{
		func(r *plan.Revisions) *string { return &r.Services },
		func(r *plan.Revisions) *string { return &r.EndpointSlices },
	} {
		a.kinds = append(a.kinds, &kindProgress{
			of:     of,
			agents: newOrdered(func(a, b *agentReport) bool { return plan.OlderRevision(*of(&a.programmed), *of(&b.programmed)) }),
			waits:  newOrdered(func(a, b *waitingGroup) bool { return plan.OlderRevision(*of(&a.want), *of(&b.want)) }),
		})
	}
	return a
}

// set takes note of an agent's Lease and returns the ServiceGroups to wake. An edited one makes its
// agent count for a while, or be behind, until the agent writes it again.
func (a *agents) set(lease *coordinationv1.Lease) []types.NamespacedName {
	node, ok := plan.NodeOfLease(lease.Name)
	if !ok || lease.Spec.RenewTime == nil || lease.Spec.LeaseDurationSeconds == nil {
		return nil
	}
	renewed, now := lease.Spec.RenewTime.Time, a.clock.Now()
	if renewed.After(now) {
		renewed = now
	}
	valid := min(time.Duration(*lease.Spec.LeaseDurationSeconds)*time.Second, longestLease)
	a.mu.Lock()
	defer a.mu.Unlock()
	first := len(a.reports) == 0
	report := a.reports[node]
	if report == nil {
		report = &agentReport{node: node}
		a.reports[node] = report
	}
	report.programmed, report.validUntil = plan.ReportedRevisions(lease.Annotations), renewed.Add(valid)
	a.expiry.put(report)
	for _, kind := range a.kinds {
		kind.agents.put(report)
	}
	if first {
		return a.all() // there was nobody to wait for
	}
	return a.reached()
}

func (a *agents) delete(lease *coordinationv1.Lease) []types.NamespacedName {
	a.mu.Lock()
	defer a.mu.Unlock()
	node, _ := plan.NodeOfLease(lease.Name)
	if report := a.reports[node]; report != nil {
		a.drop(report)
	}
	return a.reached()
}

// expire drops the agents that have stopped reporting, and returns the ServiceGroups to wake.
func (a *agents) expire() []types.NamespacedName {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		next, found := a.expiry.first()
		if !found || !a.clock.Now().After(next.validUntil) {
			return a.reached()
		}
		a.drop(next)
	}
}

func (a *agents) drop(report *agentReport) {
	delete(a.reports, report.node)
	a.expiry.remove(report)
	for _, kind := range a.kinds {
		kind.agents.remove(report)
	}
}

// all are the ServiceGroups that wait.
func (a *agents) all() []types.NamespacedName {
	var out []types.NamespacedName
	for key, wait := range a.waiting {
		if !wait.done {
			out = append(out, key)
		}
	}
	return out
}

// reached returns the ServiceGroups for which no agent is left that they wait for.
func (a *agents) reached() (out []types.NamespacedName) {
	for _, kind := range a.kinds {
		for {
			next, found := kind.waits.first()
			if !found || !kind.has(next) {
				break
			}
			kind.waits.remove(next)
			if !a.waits(next) {
				out = append(out, next.key)
			}
		}
	}
	return out
}

// has reports whether every agent has of a kind what a ServiceGroup waits for.
func (k *kindProgress) has(wait *waitingGroup) bool {
	last, found := k.agents.first()
	return !found || !plan.OlderRevision(*k.of(&last.programmed), *k.of(&wait.want))
}

// waits reports whether a ServiceGroup still waits for anything.
func (a *agents) waits(wait *waitingGroup) bool {
	for _, kind := range a.kinds {
		if _, found := kind.waits.at[wait]; found {
			return true
		}
	}
	return len(wait.removing) > 0
}

// arm makes a ServiceGroup be woken when there is nothing left that it waits for.
func (a *agents) arm(wait *waitingGroup) {
	for _, kind := range a.kinds {
		kind.waits.remove(wait)
	}
	for _, kind := range a.kinds {
		if !wait.done && !kind.has(wait) {
			kind.waits.put(wait)
		}
	}
}

// programming says how far the agents are with what is written for a ServiceGroup. A node that has
// stopped reporting does not count: it is down, or it has no agent any more.
func (a *agents) programming(sg *v1alpha1.ServiceGroup, service *corev1.Service, written []*discoveryv1.EndpointSlice) *plan.Programming {
	key, now := client.ObjectKeyFromObject(sg), a.clock.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	wait := a.waiting[key]
	if wait != nil && wait.generation != sg.Generation {
		a.stopWaiting(key)
		wait = nil
	}
	if plan.IsProgrammed(sg) && (wait == nil || wait.done) { // else it is not we who wrote that
		a.stopWaiting(key)
		return &plan.Programming{Agents: max(1, len(a.reports))}
	}
	if wait == nil {
		wait = a.startWaiting(sg, plan.RevisionsOf(service, written))
	}
	out := &plan.Programming{Late: now.Sub(wait.since) >= lateAfter, Removing: len(wait.removing)}
	for node, report := range a.reports {
		if now.After(report.validUntil) {
			continue
		}
		out.Agents++
		if !report.programmed.Covers(wait.want) {
			out.Behind = append(out.Behind, node)
		}
	}
	wait.done = out.Agents > 0 && len(out.Behind) == 0 && out.Removing == 0
	a.arm(wait)
	return out
}

func (a *agents) startWaiting(sg *v1alpha1.ServiceGroup, want plan.Revisions) *waitingGroup {
	wait := &waitingGroup{key: client.ObjectKeyFromObject(sg), generation: sg.Generation, want: want, since: a.clock.Now()}
	if removed := a.removals[wait.key]; removed != nil {
		wait.removing = maps.Clone(removed.pending)
		wait.until(removed.newest)
	}
	a.waiting[wait.key] = wait
	return wait
}

// until makes a ServiceGroup wait for a revision of EndpointSlices, too.
func (w *waitingGroup) until(revision string) {
	if plan.OlderRevision(w.want.EndpointSlices, revision) {
		w.want.EndpointSlices = revision
	}
}

func (a *agents) stopWaiting(key types.NamespacedName) {
	if wait := a.waiting[key]; wait != nil {
		for _, kind := range a.kinds {
			kind.waits.remove(wait)
		}
		delete(a.waiting, key)
	}
}

// lookAgain is when to look again at who is behind, although no wait ends: 0 is never.
func (a *agents) lookAgain(key types.NamespacedName) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	wait := a.waiting[key]
	if wait == nil || wait.done || len(a.reports) == 0 {
		return 0
	}
	waited := a.clock.Now().Sub(wait.since)
	if waited < lateAfter {
		return lateAfter - waited
	}
	return min(waited, lookAgainMax)
}

// forget drops a ServiceGroup that is gone or whose spec is not accepted.
func (a *agents) forget(key types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopWaiting(key)
	delete(a.removals, key)
}
