package fairqueue

import (
	"cmp"
	"container/list"
	"slices"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// lowShare is how many items in a row are handed out while one of a lower priority waits. Without it,
// who keeps the queue full of changes would keep others' status from ever being written.
const lowShare = 16

// turns is the order in which items are handed out. It is the storage of a client-go queue, which calls
// Push, Pop, Len and Touch with its own lock held; nothing here calls that queue.
type turns struct {
	workers int

	mu sync.Mutex
	// items are in the queue, delayed or ready.
	items map[reconcile.Request]*item
	// levels are the ready items by priority, the highest first; none is empty.
	levels []*level
	ready  int
	// running is the priority of each item that is handed out, and busy their number by namespace.
	running map[reconcile.Request]int
	busy    map[string]int
	// passed is how many items were handed out in a row while one of a lower priority waited.
	passed int
	closed bool
}

// item is a key from its add until it is handed out.
type item struct {
	priority int
	// readyAt is when its delay ends, while it is not ready.
	readyAt time.Time
	ready   bool
	// line and place are where it stands. A ready item that is being worked on stands nowhere yet.
	line  *line
	place *list.Element
}

// level is the ready items of one priority.
type level struct {
	priority int
	// order is the lines in the order of their turns.
	order list.List
	lines map[string]*line
}

// line is the ready items of one priority and namespace, the oldest first; it is never empty.
type line struct {
	namespace string
	level     *level
	keys      list.List
	turn      *list.Element
}

func newTurns(workers int) *turns {
	return &turns{
		workers: workers,
		items:   map[reconcile.Request]*item{},
		running: map[reconcile.Request]int{},
		busy:    map[string]int{},
	}
}

// add takes note of an item. It reports whether the item is ready by this, and if not, whether its
// delay is by this the one that counts.
func (t *turns) add(key reconcile.Request, priority int, after time.Duration) (ready, delay bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false, false
	}
	known := t.items[key]
	if known == nil {
		known = &item{priority: priority}
		t.items[key] = known
	}
	t.raise(key, known, priority)
	if known.ready {
		return false, false
	}
	if after <= 0 {
		known.ready = true
		return true, false
	}
	at := time.Now().Add(after)
	if known.readyAt.IsZero() || at.Before(known.readyAt) {
		known.readyAt = at
		return false, true
	}
	return false, false
}

// ripen makes a delayed item ready. If it is too early for that, it returns how long is left.
func (t *turns) ripen(key reconcile.Request) (ready bool, left time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.items[key]
	if known == nil || known.ready || t.closed {
		return false, 0
	}
	if left = time.Until(known.readyAt); left > 0 {
		return false, left
	}
	known.ready = true
	return true, 0
}

// raise gives an item a higher priority, and then it stands at the end of its new line.
func (t *turns) raise(key reconcile.Request, known *item, priority int) {
	if priority <= known.priority {
		return
	}
	known.priority = priority
	if known.line != nil {
		t.leave(known)
		t.stand(key, known)
	}
}

// Push puts a ready item in its line.
func (t *turns) Push(key reconcile.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.items[key]; known != nil {
		t.stand(key, known)
	}
}

// Touch does nothing: add has raised the item already.
func (t *turns) Touch(reconcile.Request) {}

// Len returns how many items are ready, or 0 if none of them may be handed out now.
func (t *turns) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.next() == nil {
		return 0
	}
	return t.ready
}

// Pop hands an item out.
func (t *turns) Pop() reconcile.Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := t.next()
	if from == nil {
		return reconcile.Request{} // Len has just said that there is one
	}
	if from.level == t.levels[0] && len(t.levels) > 1 {
		t.passed++
	} else {
		t.passed = 0
	}
	key := from.keys.Front().Value.(reconcile.Request)
	known := t.items[key]
	from.level.order.MoveToBack(from.turn)
	t.leave(known)
	delete(t.items, key)
	t.running[key] = known.priority
	t.busy[key.Namespace]++
	return key
}

// next is the line whose turn it is, nil if there is none that may have a worker.
func (t *turns) next() *line {
	if t.passed >= lowShare && len(t.levels) > 1 {
		if found := t.first(t.levels[1]); found != nil {
			return found
		}
	}
	for _, of := range t.levels {
		if found := t.first(of); found != nil {
			return found
		}
	}
	return nil
}

// first is the first line of a level that may have a worker: any while two are free, and the last one
// a namespace that has none. Those passed over have one, so there are fewer of them than workers.
func (t *turns) first(of *level) *line {
	free := t.workers - len(t.running)
	for turn := of.order.Front(); turn != nil; turn = turn.Next() {
		if found := turn.Value.(*line); free > 1 || t.busy[found.namespace] == 0 {
			return found
		}
	}
	return nil
}

// stand puts an item at the end of its line.
func (t *turns) stand(key reconcile.Request, known *item) {
	at, found := slices.BinarySearchFunc(t.levels, known.priority, func(l *level, priority int) int {
		return cmp.Compare(priority, l.priority)
	})
	if !found {
		t.levels = slices.Insert(t.levels, at, &level{priority: known.priority, lines: map[string]*line{}})
	}
	of := t.levels[at]
	if known.line = of.lines[key.Namespace]; known.line == nil {
		known.line = &line{namespace: key.Namespace, level: of}
		known.line.turn = of.order.PushBack(known.line)
		of.lines[key.Namespace] = known.line
	}
	known.place = known.line.keys.PushBack(key)
	t.ready++
}

// leave takes an item out of its line.
func (t *turns) leave(known *item) {
	from := known.line
	from.keys.Remove(known.place)
	known.line, known.place = nil, nil
	t.ready--
	if from.keys.Len() > 0 {
		return
	}
	from.level.order.Remove(from.turn)
	delete(from.level.lines, from.namespace)
	if from.level.order.Len() == 0 {
		t.levels = slices.DeleteFunc(t.levels, func(l *level) bool { return l == from.level })
	}
}

// done takes note that a worker is free.
func (t *turns) done(key reconcile.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, found := t.running[key]; !found {
		return
	}
	delete(t.running, key)
	if t.busy[key.Namespace]--; t.busy[key.Namespace] == 0 {
		delete(t.busy, key.Namespace)
	}
}

func (t *turns) priorityOf(key reconcile.Request) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running[key]
}

func (t *turns) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ready
}

// close lets nothing out any more.
func (t *turns) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}
