package fairqueue

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// model is what a queue promises, without any order of its own.
type model struct {
	workers int
	now     time.Duration
	// queued are the items that are to come.
	queued  map[reconcile.Request]queued
	running map[reconcile.Request]bool
	// had are, for each line of items, the namespaces that had a turn of its priority since it had one.
	had    map[place]map[string]bool
	passed int
}

// place is a priority and a namespace.
type place struct {
	priority  int
	namespace string
}

type queued struct {
	priority int
	at       time.Duration
}

func (m *model) add(key reconcile.Request, priority int, after time.Duration) {
	old, found := m.queued[key]
	now := queued{priority, m.now + after}
	if found {
		now = queued{max(priority, old.priority), min(now.at, old.at)}
	}
	m.queued[key] = now
}

func (m *model) busy(namespace string) (n int) {
	for key := range m.running {
		if key.Namespace == namespace {
			n++
		}
	}
	return n
}

// candidates are the items that may be handed out, with their priorities.
func (m *model) candidates() map[reconcile.Request]int {
	out := map[reconcile.Request]int{}
	for key, q := range m.queued {
		if q.at <= m.now && !m.running[key] && (m.workers-len(m.running) > 1 || m.busy(key.Namespace) == 0) {
			out[key] = q.priority
		}
	}
	return out
}

// get checks what was handed out.
func (m *model) get(t *rapid.T, got reconcile.Request, priority int) {
	candidates := m.candidates()
	want, found := candidates[got]
	if !found {
		t.Fatalf("%v is handed out, which is not queued, not ready, with a worker, or may not have the last one", got)
	}
	if priority != want {
		t.Fatalf("%v has priority %d, want %d", got, priority, want)
	}
	highest := priority
	for _, p := range candidates {
		highest = max(highest, p)
	}
	if m.passed++; highest > priority {
		if m.passed <= lowShare {
			t.Fatalf("%v of priority %d comes before one of %d", got, priority, highest)
		}
		m.passed = 0
	}
	m.turn(t, got, priority)
	delete(m.queued, got)
	m.running[got] = true
}

// lines are the items of a priority and namespace that wait for a worker.
func (m *model) lines() map[place]bool {
	out := map[place]bool{}
	for key, q := range m.queued {
		if q.at <= m.now && !m.running[key] {
			out[place{q.priority, key.Namespace}] = true
		}
	}
	return out
}

// turn checks that nobody has two turns while another of the same priority waits who may have one.
func (m *model) turn(t *rapid.T, got reconcile.Request, priority int) {
	lines := m.lines()
	maps.DeleteFunc(m.had, func(at place, _ map[string]bool) bool { return !lines[at] })
	for key, p := range m.candidates() {
		at := place{p, key.Namespace}
		if p != priority || key.Namespace == got.Namespace {
			continue
		}
		if m.had[at][got.Namespace] {
			t.Fatalf("%s has a second turn while %s waits", got.Namespace, key.Namespace)
		}
	}
	for at := range lines {
		if m.had[at] == nil {
			m.had[at] = map[string]bool{}
		}
		if at.priority == priority {
			m.had[at][got.Namespace] = true
		}
	}
	delete(m.had, place{priority, got.Namespace})
}

// TestQueueAgainstModel: whatever is added, handed out and done in whatever order, everything comes once
// for its adds, not before its time, not to two at once, by priorities and turns.
func TestQueueAgainstModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A bubble has no deadline, for which rapid would ask a *testing.T.
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) {
			workers := rapid.IntRange(1, 4).Draw(t, "workers")
			q := newQueue(workers)
			defer q.ShutDown()
			m := &model{workers: workers, queued: map[reconcile.Request]queued{}, running: map[reconcile.Request]bool{}, had: map[place]map[string]bool{}}
			t.Repeat(map[string]func(*rapid.T){
				"add":  func(t *rapid.T) { addSome(t, q, m) },
				"get":  func(t *rapid.T) { getOne(t, q, m) },
				"done": func(*rapid.T) { finishOne(q, m) },
				"pass": func(t *rapid.T) { pass(t, m, time.Duration(rapid.IntRange(1, 5).Draw(t, "s"))*time.Second) },
				"":     func(t *rapid.T) { compare(t, q, m) },
			})
			pass(t, m, time.Minute)
			for len(m.queued)+len(m.running) > 0 { // nothing is lost
				if len(m.candidates()) > 0 && len(m.running) < m.workers {
					getOne(t, q, m)
				} else {
					finishOne(q, m)
				}
				compare(t, q, m)
			}
		})
	})
}

func addSome(t *rapid.T, q *Queue, m *model) {
	what := key(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "namespace"), rapid.IntRange(0, 3).Draw(t, "name"))
	after := time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 5, 20}).Draw(t, "after")) * time.Second
	priority := rapid.SampledFrom([]int{0, 0, -100}).Draw(t, "priority")
	q.AddWithOpts(priorityqueue.AddOpts{After: after, Priority: ptr.To(priority)}, what)
	m.add(what, priority, after)
}

func getOne(t *rapid.T, q *Queue, m *model) {
	if len(m.candidates()) == 0 || len(m.running) == m.workers {
		return
	}
	if q.turns.Len() == 0 {
		t.Fatalf("nothing is handed out of %v", m.candidates())
	}
	got, priority, _ := q.GetWithPriority()
	m.get(t, got, priority)
}

func finishOne(q *Queue, m *model) {
	for key := range m.running {
		delete(m.running, key)
		q.Done(key)
		return
	}
}

func pass(_ *rapid.T, m *model, d time.Duration) {
	m.now += d
	time.Sleep(d) //nolint:forbidigo // the time of the bubble
}

func compare(t *rapid.T, q *Queue, m *model) {
	synctest.Wait()
	ready := 0
	for key, q := range m.queued {
		if q.at <= m.now && !m.running[key] {
			ready++
		}
	}
	if q.Len() != ready {
		t.Fatalf("%d items are ready, want %d", q.Len(), ready)
	}
	if may := q.turns.Len() > 0; may != (len(m.candidates()) > 0) {
		t.Fatalf("whether any may be handed out: %v, the other way round from the model", may)
	}
}
