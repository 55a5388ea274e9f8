package servicegroup

import (
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// releaseLimit is how long addresses may take to be released after the Service that had them is gone.
const releaseLimit = 2 * time.Second

// tries knows what the API server answered to our tries to write Services, so that the same is not tried
// over and over.
type tries struct {
	options Options
	known   *perGroup[map[plan.Source]*try]
}

// attempt identifies a try: the same again has the same answer for a while.
type attempt struct {
	group      types.UID
	generation int64
	service    types.UID
}

// try is what became of the attempts of one source.
type try struct {
	attempt attempt
	answer  plan.Answer
	wait    time.Duration
	until   time.Time
	// rewrites counts the writes since the Service was last as it is to be.
	rewrites int
	// heldSince is when addresses that are to be restored were first found to be held, or taken for it.
	heldSince time.Time
}

func newTries(options Options) *tries {
	return &tries{options: options, known: newPerGroup[map[plan.Source]*try]()}
}

// with runs a function on the try of a source, a new one if it was of another attempt.
func (t *tries) with(key types.NamespacedName, source plan.Source, a attempt, do func(*try)) {
	t.known.with(key, func(all *map[plan.Source]*try) {
		if *all == nil {
			*all = map[plan.Source]*try{}
		}
		if known := (*all)[source]; known == nil || known.attempt != a {
			(*all)[source] = &try{attempt: a}
		}
		do((*all)[source])
	})
}

// answer is what is known of an attempt. A refusal counts until it is time to try again, and then all
// that led to it is forgotten.
func (t *tries) answer(key types.NamespacedName, source plan.Source, a attempt) (answer plan.Answer) {
	t.known.ifKnown(key, func(all *map[plan.Source]*try) {
		known := (*all)[source]
		if known == nil || known.attempt != a {
			return
		}
		if known.answer.Refusal != nil && !t.options.Clock.Now().Before(known.until) {
			known.answer, known.heldSince = plan.Answer{}, time.Time{}
		}
		answer = known.answer
		answer.NodePorts = maps.Clone(answer.NodePorts)
	})
	return answer
}

// refuse records a refusal; the wait doubles while the same attempt goes on being refused.
func (t *tries) refuse(key types.NamespacedName, source plan.Source, a attempt, refusal plan.Refusal) {
	t.with(key, source, a, func(known *try) {
		known.wait = min(max(2*known.wait, t.options.RetryMin), t.options.RetryMax)
		known.answer.Refusal, known.until = &refusal, t.options.Clock.Now().Add(known.wait)
	})
}

// nextTry is how long to wait for the first refusal that is to be tried again; 0 is none.
func (t *tries) nextTry(key types.NamespacedName) (wait time.Duration) {
	t.known.ifKnown(key, func(all *map[plan.Source]*try) {
		for _, known := range *all {
			if known.answer.Refusal == nil {
				continue
			}
			left := known.until.Sub(t.options.Clock.Now())
			if left <= 0 {
				known.answer, known.heldSince, left = plan.Answer{}, time.Time{}, time.Millisecond
			}
			wait = sooner(wait, left)
		}
	})
	return wait
}

// accept forgets what was refused of some sources.
func (t *tries) accept(key types.NamespacedName, sources ...plan.Source) {
	t.known.ifKnown(key, func(all *map[plan.Source]*try) {
		for _, source := range sources {
			delete(*all, source)
		}
	})
}

// releasing reports whether addresses that are to be restored, and are held, may still be released.
func (t *tries) releasing(key types.NamespacedName, source plan.Source, a attempt) (yes bool) {
	t.with(key, source, a, func(known *try) {
		now := t.options.Clock.Now()
		if known.heldSince.IsZero() {
			known.heldSince = now
		}
		yes = now.Sub(known.heldSince) < releaseLimit
	})
	return yes
}

// wait records that the release of addresses is waited for.
func (t *tries) wait(key types.NamespacedName, source plan.Source, a attempt) {
	t.with(key, source, a, func(known *try) {
		if known.answer.Waited = true; known.heldSince.IsZero() {
			known.heldSince = t.options.Clock.Now()
		}
	})
}

// lost records that addresses that are to be restored are not to be had.
func (t *tries) lost(key types.NamespacedName, source plan.Source, a attempt) {
	t.with(key, source, a, func(known *try) { known.answer.Lost = true })
}

// held records a NodePort that another Service holds, and returns how many were met so far.
func (t *tries) held(key types.NamespacedName, source plan.Source, a attempt, number int32) (met int) {
	t.with(key, source, a, func(known *try) {
		if known.answer.NodePorts == nil {
			known.answer.NodePorts = map[int32]bool{}
		}
		known.answer.NodePorts[number] = true
		met = len(known.answer.NodePorts)
	})
	return met
}

// rewritten records a write of the Service, and returns how many there were since it was as it is to be.
func (t *tries) rewritten(key types.NamespacedName, source plan.Source, a attempt) (n int) {
	t.with(key, source, a, func(known *try) {
		known.rewrites++
		n = known.rewrites
	})
	return n
}
