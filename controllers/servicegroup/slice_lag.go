package servicegroup

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// staleLimit is how long the cache of EndpointSlices may lag behind our writes before we stop
// waiting for it: a slice that somebody deleted while we created it is never seen.
const staleLimit = 5 * time.Second

// sliceLag knows which Services wait for the cache of EndpointSlices to show our own writes.
type sliceLag struct {
	clock clock.PassiveClock
	known *perGroup[lag]
}

type lag struct {
	// since is when the wait began.
	since time.Time
	// waiting reports whether the next event of one of its slices is to wake it.
	waiting bool
	// escaped reports whether a slice left the cache without our doing.
	escaped bool
	// triggered reports whether the trigger times of its pods have been seen once.
	triggered bool
}

func newSliceLag(clock clock.PassiveClock) *sliceLag {
	return &sliceLag{clock: clock, known: newPerGroup[lag]()}
}

// await makes the next slice event wake the ServiceGroup. It is called before the cache is read, so
// that no event falls between.
func (l *sliceLag) await(key types.NamespacedName) {
	l.known.with(key, func(e *lag) { e.waiting = true })
}

// caughtUp ends the wait.
func (l *sliceLag) caughtUp(key types.NamespacedName) {
	l.known.with(key, func(e *lag) { e.waiting, e.since = false, time.Time{} })
}

// hopeless reports whether the cache has lagged for so long that waiting on is pointless.
func (l *sliceLag) hopeless(key types.NamespacedName) (hopeless bool) {
	l.known.with(key, func(e *lag) {
		now := l.clock.Now()
		if e.since.IsZero() {
			e.since = now
		}
		hopeless = now.Sub(e.since) >= staleLimit
	})
	return hopeless
}

// isWaiting reports whether a slice event is to wake the ServiceGroup.
func (l *sliceLag) isWaiting(key types.NamespacedName) (waiting bool) {
	l.known.ifKnown(key, func(e *lag) { waiting = e.waiting })
	return waiting
}

// escaped records that a slice left the cache without our doing. It remembers nothing of Services whose slices
// were never listed: the labels that name them are what anybody wrote.
func (l *sliceLag) escaped(key types.NamespacedName) {
	l.known.ifKnown(key, func(e *lag) { e.escaped = true })
}

// takeEscaped reports whether a slice escaped since it was asked last.
func (l *sliceLag) takeEscaped(key types.NamespacedName) (escaped bool) {
	l.known.ifKnown(key, func(e *lag) { escaped, e.escaped = e.escaped, false })
	return escaped
}

// firstTrigger reports whether the trigger times of the pods are looked at for the first time.
func (l *sliceLag) firstTrigger(key types.NamespacedName) (first bool) {
	l.known.with(key, func(e *lag) { first, e.triggered = !e.triggered, true })
	return first
}
