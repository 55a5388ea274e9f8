package probe

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pool runs jobs when they are due, so many at once, in the order of turns. A job that nobody runs at
// the moment has no goroutine.
type pool struct {
	late prometheus.Counter
	// wake makes the loop look again.
	wake chan struct{}

	mu    sync.Mutex
	turns *turns
}

func newPool(workers int, late prometheus.Counter) *pool {
	return &pool{late: late, wake: make(chan struct{}, 1), turns: newTurns(workers)}
}

func (p *pool) add(j *job, due time.Time) {
	p.mu.Lock()
	p.turns.add(j, due)
	p.mu.Unlock()
	p.lookAgain()
}

// end makes a job not run again, and ends the run under way without waiting for it.
func (p *pool) end(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turns.end(j)
	if j.running {
		j.cancel()
	}
}

func (p *pool) lookAgain() {
	select {
	case p.wake <- struct{}{}:
	default: // it is about to
	}
}

// loop starts jobs until ctx ends.
func (p *pool) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-p.wake:
		case <-ctx.Done():
			return
		}
		if due, ok := p.startDue(ctx); ok {
			timer.Reset(time.Until(due))
		} else {
			timer.Stop()
		}
	}
}

// startDue starts what is due, as far as there are places, and returns when more will be.
func (p *pool) startDue(ctx context.Context) (next time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for j := p.turns.start(now); j != nil; j = p.turns.start(now) {
		if now.Sub(j.due) > j.tolerance {
			p.late.Inc()
		}
		var running context.Context
		running, j.cancel = context.WithCancel(ctx)
		go p.run(running, j)
	}
	return p.turns.next()
}

func (p *pool) run(ctx context.Context, j *job) {
	due := j.do(ctx)
	p.mu.Lock()
	j.cancel()
	p.turns.done(j, due)
	p.mu.Unlock()
	p.lookAgain()
}

// spread is a wait and up to a tenth more, so that what began together does not stay together.
func spread(wait time.Duration) time.Duration { return wait + rand.N(wait/10+1) }
