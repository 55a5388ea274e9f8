package writelimit

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// pause is how long a namespace without tokens waits at least: a turn then has more than one write to
	// spend on what it planned.
	pause = 500 * time.Millisecond
	// longestPause bounds the wait of those that queue up behind others of their namespace.
	longestPause = 10 * time.Second
	// sweepEvery is how often buckets are dropped that are full, and so tell nothing.
	sweepEvery = time.Minute
)

// Exhausted is the error of a write that was not sent.
type Exhausted struct {
	Namespace string
	// RetryAfter is when to try again.
	RetryAfter time.Duration
}

func (e *Exhausted) Error() string {
	return fmt.Sprintf("namespace %s has used up its writes to the API server for now, retry after %s", e.Namespace, e.RetryAfter)
}

// Limits are the buckets of all namespaces.
type Limits struct {
	perSecond rate.Limit
	burst     int
	now       func() time.Time

	mu      sync.Mutex
	buckets map[string]*bucket
	swept   time.Time
}

// bucket is the tokens of one namespace.
type bucket struct {
	tokens *rate.Limiter
	// retryAt is when the last of those is to come back that found no token.
	retryAt time.Time
}

// New returns limits of so many writes a second in each namespace, and of burst at once.
func New(perSecond float64, burst int, now func() time.Time) *Limits {
	return &Limits{perSecond: rate.Limit(perSecond), burst: burst, now: now, buckets: map[string]*bucket{}, swept: now()}
}

// Take takes a token, or returns an Exhausted error.
func (l *Limits) Take(namespace string) error { return l.take(namespace, 1) }

// Check returns an Exhausted error if a write would have one. Work that ends in a write need not begin
// then.
func (l *Limits) Check(namespace string) error { return l.take(namespace, 0) }

func (l *Limits) take(namespace string, n int) error {
	if namespace == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.sweep(now)
	b := l.buckets[namespace]
	if b == nil {
		if n == 0 {
			return nil
		}
		b = &bucket{tokens: rate.NewLimiter(l.perSecond, l.burst)}
		l.buckets[namespace] = b
	}
	if b.tokens.TokensAt(now) >= 1 {
		b.tokens.AllowN(now, n)
		return nil
	}
	// Those who find nothing come back one after the other, as tokens do.
	b.retryAt = later(b.retryAt.Add(time.Duration(float64(time.Second)/float64(l.perSecond))), now.Add(pause))
	if last := now.Add(longestPause); b.retryAt.After(last) {
		b.retryAt = last
	}
	return &Exhausted{Namespace: namespace, RetryAfter: b.retryAt.Sub(now)}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sweep drops full buckets: a new one is as good.
func (l *Limits) sweep(now time.Time) {
	if now.Sub(l.swept) < sweepEvery {
		return
	}
	l.swept = now
	for namespace, b := range l.buckets {
		if b.tokens.TokensAt(now) >= float64(l.burst) {
			delete(l.buckets, namespace)
		}
	}
}
