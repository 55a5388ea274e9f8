package fairqueue

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func key(namespace string, n int) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: fmt.Sprint(n)}}
}

func newQueue(workers int) *Queue {
	return New(Options{Workers: workers, RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, time.Minute)})
}

// get gets an item that must be there.
func get(t *testing.T, q *Queue) reconcile.Request {
	t.Helper()
	if q.turns.Len() == 0 {
		t.Fatal("nothing may be handed out")
	}
	got, _, _ := q.GetWithPriority()
	return got
}

// TestNamespacesTakeTurns: a namespace with 1,000 items delays another by one item, and not by what it
// adds meanwhile.
func TestNamespacesTakeTurns(t *testing.T) {
	q := newQueue(1)
	defer q.ShutDown()
	for i := range 1000 {
		q.Add(key("busy", i))
	}
	q.Add(key("quiet", 0))
	q.Add(key("other", 0))
	q.Add(key("quiet", 1))
	var got []string
	for range 6 {
		next := get(t, q)
		q.Add(next) // it changes again while it is worked on
		q.Done(next)
		got = append(got, next.Namespace)
	}
	if want := []string{"busy", "quiet", "other", "busy", "quiet", "other"}; !slices.Equal(got, want) {
		t.Errorf("the turns are %v, want %v", got, want)
	}
}

// TestLastWorkerIsKept: whoever is alone has all workers but one, and that one is there at once for
// anybody else.
func TestLastWorkerIsKept(t *testing.T) {
	q := newQueue(4)
	defer q.ShutDown()
	for i := range 10 {
		q.Add(key("busy", i))
	}
	for range 3 {
		get(t, q)
	}
	if n := q.turns.Len(); n != 0 {
		t.Fatalf("%d items may be handed out to the last worker", n)
	}
	got := make(chan reconcile.Request)
	go func() { // the last worker waits
		next, _ := q.Get()
		got <- next
	}()
	q.Add(key("quiet", 0))
	if next := <-got; next != key("quiet", 0) {
		t.Errorf("the last worker got %v", next)
	}
	q.Done(key("busy", 0))
	q.Done(key("busy", 1))
	if next := get(t, q); next.Namespace != "busy" {
		t.Errorf("got %v", next)
	}
}

// TestOneWorkerServesEveryone: with a single worker there is none to keep.
func TestOneWorkerServesEveryone(t *testing.T) {
	q := newQueue(1)
	defer q.ShutDown()
	for i := range 3 {
		q.Add(key("alone", i))
	}
	for i := range 3 {
		if next := get(t, q); next != key("alone", i) {
			t.Errorf("got %v, want %d", next, i)
		}
		q.Done(key("alone", i))
	}
}

// TestPriorities: what changed comes before what can wait, of whatever namespace; but what can wait is
// not put off for ever.
func TestPriorities(t *testing.T) {
	q := newQueue(1)
	defer q.ShutDown()
	low := priorityqueue.AddOpts{Priority: ptr.To(-100)}
	q.AddWithOpts(low, key("quiet", 0), key("quiet", 1))
	for i := range 100 {
		q.Add(key("busy", i))
	}
	q.Add(key("quiet", 1)) // it changed after all
	var at []int
	for i := range 40 {
		next, priority, _ := q.GetWithPriority()
		q.Done(next)
		if next.Namespace == "quiet" {
			at = append(at, i)
			if want := map[string]int{"0": -100, "1": 0}[next.Name]; priority != want {
				t.Errorf("%v has priority %d, want %d", next, priority, want)
			}
		}
	}
	if want := []int{1, lowShare}; !slices.Equal(at, want) {
		t.Errorf("the quiet namespace has turns %v, want %v", at, want)
	}
}

// TestDelays: of several delays the shortest counts, an item is ready once, and a delay that was
// overtaken wakes nobody.
func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2)
		defer q.ShutDown()
		q.AddAfter(key("a", 0), 10*time.Second)
		q.AddAfter(key("a", 0), 5*time.Second)
		q.AddAfter(key("a", 0), 20*time.Second)
		await(t, q, 5*time.Second, 1)
		q.Done(get(t, q))
		await(t, q, 20*time.Second, 0)

		q.AddAfter(key("a", 0), 5*time.Second)
		q.Add(key("a", 0))
		q.Done(get(t, q))
		q.AddAfter(key("a", 0), 10*time.Second)
		await(t, q, 9*time.Second, 0)
		await(t, q, time.Second, 1)
		q.Done(get(t, q))

		for _, wait := range []time.Duration{1, 2, 4} {
			q.AddRateLimited(key("a", 0))
			await(t, q, wait*time.Second-1, 0)
			await(t, q, 1, 1)
			q.Done(get(t, q))
		}
		if n := q.NumRequeues(key("a", 0)); n != 3 {
			t.Errorf("requeued %d times", n)
		}
		q.Forget(key("a", 0))
		q.AddWithOpts(priorityqueue.AddOpts{After: time.Minute, RateLimited: true}, key("a", 0))
		await(t, q, time.Second, 1)
	})
}

// await lets time pass, after which so many items are ready.
func await(t *testing.T, q *Queue, pass time.Duration, ready int) {
	t.Helper()
	time.Sleep(pass) //nolint:forbidigo // the time of the bubble
	synctest.Wait()
	if n := q.Len(); n != ready {
		t.Fatalf("%d items are ready, want %d", n, ready)
	}
}

// TestShutDown: workers end, what waits is dropped, and a drain waits for who is at work.
func TestShutDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2)
		q.Add(key("a", 0))
		q.Add(key("b", 0))
		running := get(t, q)
		drained := make(chan struct{})
		go func() {
			q.ShutDownWithDrain()
			close(drained)
		}()
		synctest.Wait()
		if next, shutdown := q.Get(); !shutdown || !q.ShuttingDown() {
			t.Errorf("after the shutdown %v is handed out", next)
		}
		select {
		case <-drained:
			t.Error("the drain did not wait")
		default:
		}
		q.Add(key("c", 0))
		q.AddAfter(key("c", 0), time.Second)
		q.Done(running)
		<-drained
		q.ShutDown() // again
	})
}

// TestWorkers: many workers and many adders; no item is lost, and none is with two workers at once.
func TestWorkers(t *testing.T) {
	const workers, namespaces, items = 8, 5, 40
	q := newQueue(workers)
	var mu sync.Mutex
	held, added, seen := map[reconcile.Request]bool{}, map[reconcile.Request]int{}, map[reconcile.Request]int{}
	var atWork, adding sync.WaitGroup
	for range workers {
		atWork.Go(func() {
			for {
				next, shutdown := q.Get()
				if shutdown {
					return
				}
				mu.Lock()
				if held[next] {
					t.Errorf("%v is with two workers", next)
				}
				held[next], seen[next] = true, added[next]
				mu.Unlock()
				mu.Lock()
				held[next] = false
				mu.Unlock()
				q.Done(next)
			}
		})
	}
	for n := range namespaces {
		adding.Go(func() {
			for i := range items * 5 {
				what := key(fmt.Sprint(n), i%items)
				mu.Lock()
				added[what]++
				mu.Unlock()
				q.AddWithOpts(priorityqueue.AddOpts{After: time.Duration(i%3) * time.Millisecond, Priority: ptr.To(i % 2)}, what)
			}
		})
	}
	adding.Wait()
	deadline := time.Now().Add(30 * time.Second)
	for current := false; !current && time.Now().Before(deadline); {
		mu.Lock()
		current = len(seen) == namespaces*items
		for what, n := range added {
			current = current && seen[what] == n
		}
		mu.Unlock()
	}
	q.ShutDown()
	atWork.Wait()
	for what, n := range added {
		if seen[what] != n {
			t.Errorf("of %d adds of %v the last that was looked at is %d", n, what, seen[what])
		}
	}
}

// TestMetrics: dashboards and alerts find the queue under the names that controller-runtime gives it.
func TestMetrics(t *testing.T) {
	q := New(Options{Name: "fair", Workers: 2, RateLimiter: workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]()})
	defer q.ShutDown()
	q.Add(key("a", 0))
	q.AddAfter(key("a", 1), time.Hour)
	q.Done(get(t, q))
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		for _, m := range family.Metric {
			for _, label := range m.Label {
				if label.GetName() == "name" && label.GetValue() == "fair" {
					got = append(got, fmt.Sprintf("%s %v", family.GetName(), m.GetCounter().GetValue()+m.GetGauge().GetValue()+float64(m.GetHistogram().GetSampleCount())))
				}
			}
		}
	}
	want := []string{
		"workqueue_adds_total 1", "workqueue_depth 0", "workqueue_longest_running_processor_seconds 0", "workqueue_queue_duration_seconds 1",
		"workqueue_retries_total 1", "workqueue_unfinished_work_seconds 0", "workqueue_work_duration_seconds 1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("metrics %v, want %v", got, want)
	}
}
