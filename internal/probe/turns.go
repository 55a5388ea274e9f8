package probe

import (
	"container/heap"
	"container/list"
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// turns decides which job starts next: namespaces take turns, and within a namespace its owners. It has
// no clock, starts nothing and is not safe for concurrent use.
//
// A namespace may run as many jobs as there are free places, and no more: alone it has half of all
// places, with k others it settles at a share of 1/(k+2). However many of its jobs wait for an answer,
// there is a place for the first job of another namespace.
// (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998, where the places are a switch's memory.)
type turns struct {
	places, running int
	waiting         byDue
	tenants         map[string]*tenant
	// ring has the tenants with jobs that are due; whose turn is next comes first.
	ring list.List
}

// tenant is a namespace.
type tenant struct {
	name    string
	running int
	owners  map[types.NamespacedName]*owned
	// ring has the owners, all of which have jobs that are due.
	ring list.List
	// at is the place in the ring of tenants; nil while nothing is due.
	at *list.Element
}

// owned are the jobs of an owner that are due, the longest first.
type owned struct {
	jobs list.List
	at   *list.Element
}

// job is something to do again and again.
type job struct {
	owner types.NamespacedName
	// do does it once and returns when it is due again.
	do func(context.Context) time.Time
	// tolerance is how much later than due it may start without being counted as late.
	tolerance time.Duration

	due time.Time
	// A job is at an index of waiting, or queued among what is due, or running.
	index   int
	queued  *list.Element
	running bool
	// ended says that it is not to run again; cancel ends the run under way.
	ended  bool
	cancel context.CancelFunc
}

func newTurns(places int) *turns {
	return &turns{places: places, tenants: map[string]*tenant{}}
}

// add adds a job.
func (t *turns) add(j *job, due time.Time) {
	j.due = due
	heap.Push(&t.waiting, j)
}

// end removes a job. If it is running, done does so.
func (t *turns) end(j *job) {
	j.ended = true
	switch {
	case j.running:
	case j.queued == nil:
		heap.Remove(&t.waiting, j.index)
	default:
		t.unqueue(t.tenants[j.owner.Namespace], j)
	}
}

// start returns the next job to start, or nil if there is none or no place for it.
func (t *turns) start(now time.Time) *job {
	for len(t.waiting) > 0 && !t.waiting[0].due.After(now) {
		if j, ok := heap.Pop(&t.waiting).(*job); ok {
			t.queue(j)
		}
	}
	for at := t.ring.Front(); at != nil; at = at.Next() {
		if of, ok := at.Value.(*tenant); ok && of.running < t.places-t.running {
			return t.take(of)
		}
	}
	return nil
}

// take starts the job of a tenant whose turn it is.
func (t *turns) take(of *tenant) *job {
	owner, _ := of.ring.Front().Value.(*owned)
	j, _ := owner.jobs.Front().Value.(*job)
	of.ring.MoveToBack(owner.at)
	t.ring.MoveToBack(of.at)
	j.running = true
	of.running++
	t.running++
	t.unqueue(of, j)
	return j
}

// done ends the run of a job, which is due again then.
func (t *turns) done(j *job, due time.Time) {
	of := t.tenants[j.owner.Namespace]
	j.running = false
	of.running--
	t.running--
	t.dropIdle(of)
	if !j.ended {
		t.add(j, due)
	}
}

// next is when the first of the jobs that wait is due.
func (t *turns) next() (due time.Time, ok bool) {
	if len(t.waiting) == 0 {
		return time.Time{}, false
	}
	return t.waiting[0].due, true
}

func (t *turns) queue(j *job) {
	of := t.tenants[j.owner.Namespace]
	if of == nil {
		of = &tenant{name: j.owner.Namespace, owners: map[types.NamespacedName]*owned{}}
		t.tenants[of.name] = of
	}
	owner := of.owners[j.owner]
	if owner == nil {
		owner = &owned{}
		owner.at = of.ring.PushBack(owner)
		of.owners[j.owner] = owner
	}
	if of.at == nil {
		of.at = t.ring.PushBack(of)
	}
	j.queued = owner.jobs.PushBack(j)
}

func (t *turns) unqueue(of *tenant, j *job) {
	owner := of.owners[j.owner]
	owner.jobs.Remove(j.queued)
	j.queued = nil
	if owner.jobs.Len() > 0 {
		return
	}
	of.ring.Remove(owner.at)
	delete(of.owners, j.owner)
	if of.ring.Len() == 0 {
		t.ring.Remove(of.at)
		of.at = nil
	}
	t.dropIdle(of)
}

func (t *turns) dropIdle(of *tenant) {
	if of.running == 0 && of.at == nil {
		delete(t.tenants, of.name)
	}
}

// byDue is a heap of jobs, the earliest first.
type byDue []*job

func (h byDue) Len() int           { return len(h) }
func (h byDue) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h byDue) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is for container/heap.
func (h *byDue) Push(x any) {
	if j, ok := x.(*job); ok {
		j.index = len(*h)
		*h = append(*h, j)
	}
}

// Pop is for container/heap.
func (h *byDue) Pop() any {
	last := len(*h) - 1
	j := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return j
}
