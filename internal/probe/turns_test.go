package probe

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

// world runs the jobs of turns in a time of its own: each takes as long as it says.
type world struct {
	*turns
	now  time.Time
	jobs []*worker
}

// worker is a job in the world.
type worker struct {
	job
	period, takes time.Duration
	// starts and ends are of its runs, ends when the one under way ends.
	started, ends time.Time
	runs          int
}

func drawWorld(t *rapid.T) *world {
	w := &world{turns: newTurns(rapid.IntRange(1, 12).Draw(t, "places")), now: time.Unix(0, 0)}
	for n := range rapid.IntRange(1, 4).Draw(t, "namespaces") {
		for o := range rapid.IntRange(1, 3).Draw(t, "owners") {
			for range rapid.IntRange(1, 6).Draw(t, "jobs") {
				j := &worker{period: time.Duration(rapid.IntRange(1, 10).Draw(t, "period")) * time.Second}
				j.takes = time.Duration(rapid.IntRange(1, int(j.period/time.Second)).Draw(t, "takes")) * time.Second
				j.owner = types.NamespacedName{Namespace: fmt.Sprint(n), Name: fmt.Sprint(o)}
				w.jobs = append(w.jobs, j)
				w.add(&j.job, w.now)
			}
		}
	}
	return w
}

func (w *world) find(j *job) *worker {
	return w.jobs[slices.IndexFunc(w.jobs, func(o *worker) bool { return &o.job == j })]
}

// due are the jobs that could start.
func (w *world) due() []*worker {
	return slices.DeleteFunc(slices.Clone(w.jobs), func(j *worker) bool { return j.running || j.ended || j.job.due.After(w.now) })
}

func (w *world) runningIn(namespace string) (n int) {
	for _, j := range w.jobs {
		if j.running && (namespace == "" || j.owner.Namespace == namespace) {
			n++
		}
	}
	return n
}

// advance goes to the next moment at which something happens, and ends what ends then.
func (w *world) advance(t *rapid.T) {
	next, ok := w.next()
	for _, j := range w.jobs {
		if j.running && (!ok || j.ends.Before(next)) {
			next, ok = j.ends, true
		}
	}
	if !ok {
		t.Fatal("nothing will ever happen again")
	}
	w.now = slices.MaxFunc([]time.Time{w.now, next}, time.Time.Compare)
	for _, j := range w.jobs {
		if j.running && !j.ends.After(w.now) {
			w.done(&j.job, j.started.Add(j.period))
		}
	}
}

// No job starts before its period is over or twice at once, places are never exceeded nor left empty
// while a namespace may use them, and every job has its turn.
func TestTurnsAreFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		// Every job before it once, each as long as the longest, one after the other.
		bound := time.Duration(len(w.jobs)+1) * 10 * time.Second * 2
		for end := w.now.Add(4 * bound); w.now.Before(end); w.advance(t) {
			w.startAll(t)
		}
		for _, j := range w.jobs {
			if j.runs == 0 || w.now.Sub(j.started) > j.period+bound {
				t.Fatalf("a job of %s ran %d times, the last time %s ago; its period is %s", j.owner, j.runs, w.now.Sub(j.started), j.period)
			}
		}
	})
}

// startAll starts what may start, and checks each choice.
func (w *world) startAll(t *rapid.T) {
	for {
		due := w.due()
		free := w.places - w.runningIn("")
		may := slices.DeleteFunc(slices.Clone(due), func(j *worker) bool { return w.runningIn(j.owner.Namespace) >= free })
		found := w.start(w.now)
		if found == nil {
			if len(may) > 0 {
				t.Fatalf("%d places are free and nothing started of %d jobs that may", free, len(may))
			}
			return
		}
		j := w.find(found)
		if !slices.Contains(may, j) {
			t.Fatalf("a job of %s started with %d places free and %d running there; due %t", j.owner, free, w.runningIn(j.owner.Namespace), slices.Contains(due, j))
		}
		if j.runs > 0 && w.now.Sub(j.started) < j.period {
			t.Fatalf("a job with period %s started after %s", j.period, w.now.Sub(j.started))
		}
		j.started, j.ends, j.runs = w.now, w.now.Add(j.takes), j.runs+1
	}
}

// While all have something due, namespaces start one after the other, and in each its owners do.
func TestTurnsAlternate(t *testing.T) {
	w := newTurns(1000)
	now := time.Unix(0, 0)
	for _, of := range []struct {
		namespace, owner string
		jobs             int
	}{{"a", "big", 50}, {"a", "small", 3}, {"b", "one", 4}} {
		for range of.jobs {
			w.add(&job{owner: types.NamespacedName{Namespace: of.namespace, Name: of.owner}}, now)
		}
	}
	var got []string
	for j := w.start(now); j != nil && len(got) < 9; j = w.start(now) {
		got = append(got, j.owner.Name)
	}
	// Their order at the beginning is that of the heap, which is any.
	byOwner := map[string]int{}
	for i, name := range got[:8] {
		byOwner[name]++
		if i > 0 && (name == "one") == (got[i-1] == "one") {
			t.Errorf("a namespace started twice in succession: %v", got)
		}
	}
	if byOwner["one"] != 4 || byOwner["big"] != 2 || byOwner["small"] != 2 {
		t.Errorf("not in turn: %v", got)
	}
}

// However many jobs of how many namespaces hang, one namespace more starts at once, up to a number of
// them that grows with the logarithm of the places.
func TestThereIsAPlaceForANeighbor(t *testing.T) {
	const places = 1000
	for hanging := range 9 {
		w, now := newTurns(places), time.Unix(0, 0)
		for i := range hanging {
			for range 2 * places {
				w.add(&job{owner: types.NamespacedName{Namespace: fmt.Sprint("hostile-", i)}}, now)
			}
			for w.start(now) != nil { // one after the other, which leaves fewest places
			}
		}
		neighbor := &job{owner: types.NamespacedName{Namespace: "neighbor"}}
		w.add(neighbor, now)
		if got := w.start(now); got != neighbor {
			t.Errorf("beside %d namespaces that hang, with %d of %d places taken, the neighbor does not start", hanging, w.running, places)
		}
	}
}

// For any order of adding, starting, finishing and ending, nothing ended starts and nothing is left behind.
func TestWhatEndsLeavesNothingBehind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, now := newTurns(rapid.IntRange(1, 5).Draw(t, "places")), time.Unix(0, 0)
		var live, running []*job
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				owner := types.NamespacedName{Namespace: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "ns"), Name: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name")}
				j := &job{owner: owner}
				w.add(j, now.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "in"))))
				live = append(live, j)
			},
			"start": func(t *rapid.T) {
				if j := w.start(now); j != nil {
					if j.ended {
						t.Fatal("started what has ended")
					}
					running = append(running, j)
				}
			},
			"done": func(t *rapid.T) {
				if len(running) > 0 {
					w.done(running[0], now.Add(3))
					running = running[1:]
				}
			},
			"end": func(t *rapid.T) {
				if len(live) > 0 {
					i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
					w.end(live[i])
					live = slices.Delete(live, i, i+1)
				}
			},
			"": func(*rapid.T) { now = now.Add(1) },
		})
		for _, j := range live {
			w.end(j)
		}
		for _, j := range running {
			w.done(j, now)
		}
		if len(w.waiting)+len(w.tenants)+w.ring.Len()+w.running != 0 {
			t.Fatalf("%d wait, %d namespaces are known, %d have turns, %d run", len(w.waiting), len(w.tenants), w.ring.Len(), w.running)
		}
	})
}

// A pool starts what is due when it is, not what is ended, and counts what is late.
func TestTheNextDueIsTheEarliest(t *testing.T) {
	w, now := newTurns(10), time.Unix(0, 0)
	if _, ok := w.next(); ok {
		t.Error("something is due without jobs")
	}
	jobs := []*job{{}, {}, {}}
	for i, j := range jobs {
		j.do = func(context.Context) time.Time { return now }
		w.add(j, now.Add(time.Duration(3-i)*time.Second))
	}
	w.end(jobs[2])
	if due, ok := w.next(); !ok || !due.Equal(now.Add(2*time.Second)) {
		t.Errorf("the next is due at %s", due)
	}
	if w.start(now.Add(time.Second)) != nil {
		t.Error("started before it was due")
	}
	if got := w.start(now.Add(2 * time.Second)); got != jobs[1] {
		t.Error("what was due did not start")
	}
}
