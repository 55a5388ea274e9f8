package fairqueue

import (
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Options are what a queue is made from.
type Options struct {
	// Name is that of the controller in the metrics. Empty: there are none.
	Name string
	// Workers is how many workers take items. Each asks for its next item after it has called Done for
	// the last one.
	Workers int
	// RateLimiter says how long an item waits that is added RateLimited.
	RateLimiter workqueue.TypedRateLimiter[reconcile.Request]
}

// Queue implements priorityqueue.PriorityQueue.
type Queue struct {
	ready   *workqueue.Typed[reconcile.Request]
	delayed workqueue.TypedDelayingInterface[reconcile.Request]
	limiter workqueue.TypedRateLimiter[reconcile.Request]
	turns   *turns
}

var _ priorityqueue.PriorityQueue[reconcile.Request] = &Queue{}

// New returns a queue that runs until it is shut down.
func New(o Options) *Queue {
	q := &Queue{limiter: o.RateLimiter, turns: newTurns(o.Workers)}
	q.ready = workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[reconcile.Request]{Name: o.Name, Queue: q.turns})
	q.delayed = workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[reconcile.Request]{
		Name: o.Name, Queue: ripening{q.ready, q},
	})
	return q
}

// ripening is where client-go puts an item whose delay is over.
type ripening struct {
	workqueue.TypedInterface[reconcile.Request]
	queue *Queue
}

// Add makes an item ready, unless it became so before, or its delay belongs to an earlier add.
func (r ripening) Add(key reconcile.Request) {
	ready, left := r.queue.turns.ripen(key)
	if left > 0 {
		go r.queue.delayed.AddAfter(key, left) // it is the one who calls that takes what is added
	}
	if ready {
		r.queue.ready.Add(key)
	}
}

// AddWithOpts adds items. One that is in the queue already keeps the higher priority and the shorter
// delay.
func (q *Queue) AddWithOpts(o priorityqueue.AddOpts, keys ...reconcile.Request) {
	for _, key := range keys {
		after := o.After
		if o.RateLimited {
			if limited := q.limiter.When(key); after == 0 || limited < after {
				after = limited
			}
		}
		ready, delay := q.turns.add(key, ptr.Deref(o.Priority, 0), after)
		if delay {
			q.delayed.AddAfter(key, after)
		}
		if ready {
			q.ready.Add(key)
		}
	}
}

// Add adds an item that is ready at once.
func (q *Queue) Add(key reconcile.Request) { q.AddWithOpts(priorityqueue.AddOpts{}, key) }

// AddAfter adds an item that is ready after a while.
func (q *Queue) AddAfter(key reconcile.Request, after time.Duration) {
	q.AddWithOpts(priorityqueue.AddOpts{After: after}, key)
}

// AddRateLimited adds an item that is ready when the rate limiter says so.
func (q *Queue) AddRateLimited(key reconcile.Request) {
	q.AddWithOpts(priorityqueue.AddOpts{RateLimited: true}, key)
}

// GetWithPriority waits for an item and returns it with its priority. After a shutdown there is none.
func (q *Queue) GetWithPriority() (key reconcile.Request, priority int, shutdown bool) {
	key, shutdown = q.ready.Get()
	if shutdown {
		return key, 0, true
	}
	return key, q.turns.priorityOf(key), false
}

// Get is GetWithPriority without the priority.
func (q *Queue) Get() (key reconcile.Request, shutdown bool) {
	key, _, shutdown = q.GetWithPriority()
	return key, shutdown
}

// Done says that a worker is done with an item, which may be handed out again from then on.
func (q *Queue) Done(key reconcile.Request) {
	q.turns.done(key)
	q.ready.Done(key)
}

// Forget ends the backoff of an item.
func (q *Queue) Forget(key reconcile.Request) { q.limiter.Forget(key) }

// NumRequeues returns how often an item was added RateLimited since it was forgotten.
func (q *Queue) NumRequeues(key reconcile.Request) int { return q.limiter.NumRequeues(key) }

// Len returns how many items are ready and not handed out.
func (q *Queue) Len() int { return q.turns.count() }

// ShutDown ends the queue: what is in it is dropped.
func (q *Queue) ShutDown() {
	q.turns.close()
	q.delayed.ShutDown()
}

// ShutDownWithDrain is ShutDown, and waits until every item that is handed out is done.
func (q *Queue) ShutDownWithDrain() {
	q.turns.close()
	q.delayed.ShutDownWithDrain()
}

// ShuttingDown reports whether the queue was shut down.
func (q *Queue) ShuttingDown() bool { return q.ready.ShuttingDown() }
