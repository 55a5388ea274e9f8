package servicegroup

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// staleLimit is how long the cache of EndpointSlices may lag behind our writes before we stop
// waiting for it: a slice that somebody deleted while we created it is never seen.
const staleLimit = 5 * time.Second

// releaseLimit is how long addresses may take to be released after the Service that had them is gone.
const releaseLimit = 2 * time.Second

// memory is what the controller remembers of a ServiceGroup, and of the Service of each of its groups
// (exposedKey), between two reconciliations. Losing it
// in a restart costs a try that is known to fail, or a status write a little early.
type memory struct {
	options Options
	mu      sync.Mutex
	entries map[types.NamespacedName]*entry
}

type entry struct {
	// staleSince is when reconciliation began to wait for the cache of EndpointSlices.
	staleSince time.Time
	// waiting says that the next event of one of its slices is to wake it.
	waiting bool
	// escaped says that a slice left the cache without our doing.
	escaped bool
	// countsDue is when pod counts in status have to be written at last.
	countsDue time.Time
	// triggered says that the trigger times of its pods have been seen once.
	triggered bool
	// exposed are the groups that have, or had, a Service of their own.
	exposed []string
	refused refused
	// heldSince is when addresses that are to be restored were first found to be held, or taken for it.
	heldSince time.Time
	adoption  adoption
	// hidden says that there may be a Service which the cache does not show.
	hidden bool
	// writing says that we are writing the Service or its slices.
	writing bool
	// status is what was found last, whether it is written already or not.
	status *v1alpha1.ServiceGroupStatus
	// group and service are what our last writes returned, until the caches show them.
	group   *v1alpha1.ServiceGroup
	service *corev1.Service
}

// refused is a try that failed.
type refused struct {
	attempt attempt
	refusal plan.Refusal
	wait    time.Duration
	until   time.Time
}

// attempt identifies a try to write a Service: the same try again has the same answer for a while.
type attempt struct {
	group      types.UID
	generation int64
	service    types.UID
}

func newMemory(options Options) *memory {
	return &memory{options: options, entries: map[types.NamespacedName]*entry{}}
}

// with runs a function on the entry of a ServiceGroup.
func (m *memory) with(key types.NamespacedName, do func(*entry)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[key]
	if e == nil {
		e = &entry{}
		m.entries[key] = e
	}
	do(e)
}

func (m *memory) forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, key)
}

// refuse remembers a refusal and returns how long to wait; the wait doubles while the same attempt
// goes on being refused.
func (m *memory) refuse(key types.NamespacedName, a attempt, refusal plan.Refusal) (wait time.Duration) {
	m.with(key, func(e *entry) {
		wait = m.options.RetryMin
		if e.refused.attempt == a && e.refused.wait > 0 {
			wait = min(2*e.refused.wait, m.options.RetryMax)
		}
		e.refused = refused{attempt: a, refusal: refusal, wait: wait, until: m.options.Clock.Now().Add(wait)}
	})
	return wait
}

// recall returns the refusal of the same attempt while it is not yet time to try again.
func (m *memory) recall(key types.NamespacedName, a attempt) (refusal *plan.Refusal, wait time.Duration) {
	m.with(key, func(e *entry) {
		left := e.refused.until.Sub(m.options.Clock.Now())
		if e.refused.attempt == a && left > 0 {
			copied := e.refused.refusal
			refusal, wait = &copied, left
		}
	})
	return refusal, wait
}

// exposed takes note of a group that has a Service of its own.
func (m *memory) exposed(key types.NamespacedName, group string) {
	m.with(key, func(e *entry) {
		if !slices.Contains(e.exposed, group) {
			e.exposed = append(e.exposed, group)
		}
	})
}

// exposedGroups are the groups that have, or had, a Service of their own.
func (m *memory) exposedGroups(key types.NamespacedName) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entries[key]; e != nil {
		return slices.Clone(e.exposed)
	}
	return nil
}

// accept forgets refusals.
func (m *memory) accept(key types.NamespacedName) {
	m.with(key, func(e *entry) { e.refused, e.heldSince = refused{}, time.Time{} })
}

// releasing says whether the addresses that are to be restored, and are held, may still be released.
func (m *memory) releasing(key types.NamespacedName) (yes bool) {
	m.with(key, func(e *entry) {
		now := m.options.Clock.Now()
		if e.heldSince.IsZero() {
			e.heldSince = now
		}
		yes = now.Sub(e.heldSince) < releaseLimit
	})
	return yes
}

// waited says whether addresses that are to be restored were waited for before.
func (m *memory) waited(key types.NamespacedName) (yes bool) {
	m.with(key, func(e *entry) {
		if yes = !e.heldSince.IsZero(); !yes {
			e.heldSince = m.options.Clock.Now()
		}
	})
	return yes
}

// deferCounts says whether pod counts have been held back long enough, and otherwise how long to
// hold them back still.
func (m *memory) deferCounts(key types.NamespacedName) (due bool, wait time.Duration) {
	m.with(key, func(e *entry) {
		now := m.options.Clock.Now()
		if e.countsDue.IsZero() {
			e.countsDue = now.Add(m.options.CountRefresh)
		}
		wait = e.countsDue.Sub(now)
		due = wait <= 0
	})
	return due, wait
}

// countsWritten ends the deferral.
func (m *memory) countsWritten(key types.NamespacedName) {
	m.with(key, func(e *entry) { e.countsDue = time.Time{} })
}

// found takes note of what the status of a ServiceGroup is to say. It is called before that is written, so that
// the event of the write does not come first.
func (m *memory) found(key types.NamespacedName, status *v1alpha1.ServiceGroupStatus) {
	m.with(key, func(e *entry) { e.status = status.DeepCopy() })
}

// wasFound says whether a status says what was found last.
func (m *memory) wasFound(key types.NamespacedName, status *v1alpha1.ServiceGroupStatus) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[key]
	return e != nil && e.status != nil && plan.DiffStatus(e.status, status) == plan.Unchanged
}

// await makes the next slice event wake the ServiceGroup. It is called before the cache is read, so
// that no event falls between.
func (m *memory) await(key types.NamespacedName) {
	m.with(key, func(e *entry) { e.waiting = true })
}

// caughtUp ends the wait.
func (m *memory) caughtUp(key types.NamespacedName) {
	m.with(key, func(e *entry) { e.waiting, e.staleSince = false, time.Time{} })
}

// stale says whether the cache has lagged for so long that waiting on is pointless.
func (m *memory) stale(key types.NamespacedName) (hopeless bool) {
	m.with(key, func(e *entry) {
		now := m.options.Clock.Now()
		if e.staleSince.IsZero() {
			e.staleSince = now
		}
		hopeless = now.Sub(e.staleSince) >= staleLimit
	})
	return hopeless
}

// isWaiting says whether a slice event is to wake the ServiceGroup.
func (m *memory) isWaiting(key types.NamespacedName) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[key]
	return e != nil && e.waiting
}

// latestGroup is the newer of what the cache shows and what our last write returned: planning from
// the older one would write the same again.
func (m *memory) latestGroup(key types.NamespacedName, cached *v1alpha1.ServiceGroup) *v1alpha1.ServiceGroup {
	m.with(key, func(e *entry) {
		if e.group != nil && newer(e.group, cached) {
			cached = e.group.DeepCopy()
			return
		}
		e.group = nil
	})
	return cached
}

func (m *memory) wroteGroup(key types.NamespacedName, written *v1alpha1.ServiceGroup) {
	m.with(key, func(e *entry) { e.group = written.DeepCopy() })
}

// latestService is the newer of what the cache shows and what our last write returned.
func (m *memory) latestService(key types.NamespacedName, cached *corev1.Service) *corev1.Service {
	m.with(key, func(e *entry) {
		if e.service != nil && newer(e.service, cached) {
			cached = e.service.DeepCopy()
			return
		}
		e.service = nil
	})
	return cached
}

func (m *memory) wroteService(key types.NamespacedName, written *corev1.Service) {
	m.with(key, func(e *entry) { e.service = written.DeepCopy() })
}

// writing takes note that a Service or its slices are being written, until the function it returns is
// called.
func (m *memory) writing(key types.NamespacedName) (done func()) {
	m.with(key, func(e *entry) { e.writing = true })
	return func() { m.with(key, func(e *entry) { e.writing = false }) }
}

func (m *memory) isWriting(key types.NamespacedName) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[key]
	return e != nil && e.writing
}

// isEcho says whether a Service in an event is what our last write returned: there is nothing in it
// that the reconciliation which wrote it does not know.
func (m *memory) isEcho(key types.NamespacedName, svc *corev1.Service) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[key]
	return e != nil && e.service != nil && e.service.UID == svc.UID && e.service.ResourceVersion == svc.ResourceVersion
}

// mayBeHidden says whether there may be a Service that the cache does not show.
func (m *memory) mayBeHidden(key types.NamespacedName) (hidden bool) {
	m.with(key, func(e *entry) { hidden = e.hidden || e.service != nil })
	return hidden
}

// hidden takes note of whether the API server has a Service that the cache does not show.
func (m *memory) hidden(key types.NamespacedName, found bool) {
	m.with(key, func(e *entry) {
		if e.hidden = found; !found {
			e.service = nil
		}
	})
}

// lostRace has the Services of a ServiceGroup looked for at the API server the next time.
func (m *memory) lostRace(key types.NamespacedName) {
	m.with(key, func(e *entry) { e.hidden = true })
	for _, group := range m.exposedGroups(key) {
		m.with(exposedKey(key, group), func(e *entry) { e.hidden = true })
	}
}

// newer says whether a is a later state of the same object as b.
func newer(a, b client.Object) bool {
	if a.GetUID() != b.GetUID() {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && order > 0
}
