package writelimit

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// fixture is limits with a clock of their own.
type fixture struct {
	*Limits
	time time.Time
}

func newFixture(perSecond float64, burst int) *fixture {
	f := &fixture{time: time.Unix(1_000_000, 0)}
	f.Limits = New(perSecond, burst, func() time.Time { return f.time })
	return f
}

// spend takes the tokens of namespace busy until there are none, and returns how many there were and the error.
func (f *fixture) spend() (n int, last *Exhausted) {
	for ; ; n++ {
		if err := f.Take("busy"); err != nil {
			errors.As(err, &last)
			return n, last
		}
	}
}

// TestBudgetsAreApart: a namespace that has used up its tokens is told when to come back, and no other
// notices.
func TestBudgetsAreApart(t *testing.T) {
	f := newFixture(10, 100)
	n, err := f.spend()
	if n != 100 || err == nil || err.Namespace != "busy" || err.RetryAfter < pause {
		t.Errorf("%d writes, then %v", n, err)
	}
	if err := f.Check("busy"); err == nil {
		t.Error("work is begun that ends in a write")
	}
	if err := errors.Join(f.Take("quiet"), f.Check("quiet"), f.Check("new")); err != nil {
		t.Error(err)
	}
	for range 1000 {
		if err := f.Take(""); err != nil {
			t.Fatal("an object without a namespace is limited")
		}
	}
	f.time = f.time.Add(err.RetryAfter)
	if n, _ := f.spend(); n != 5 {
		t.Errorf("after half a second there are %d tokens, want 5", n)
	}
}

// TestWaitersComeBackInTurn: of many that find no token each is told another time, as tokens come, and
// nobody is put off for long.
func TestWaitersComeBackInTurn(t *testing.T) {
	f := newFixture(10, 20)
	_, last := f.spend()
	for i := range 1000 {
		var next *Exhausted
		if !errors.As(f.Take("busy"), &next) {
			t.Fatal("a token out of nothing")
		}
		if next.RetryAfter > longestPause || next.RetryAfter < last.RetryAfter || i < 50 && next.RetryAfter != last.RetryAfter+100*time.Millisecond {
			t.Fatalf("the wait %s follows on %s", next.RetryAfter, last.RetryAfter)
		}
		last = next
	}
}

// TestIdleNamespacesAreDropped: memory follows the namespaces that write.
func TestIdleNamespacesAreDropped(t *testing.T) {
	f := newFixture(1, 30)
	for i := range 10_000 {
		if err := f.Take(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if err := f.Check(fmt.Sprint("read-", i)); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = f.spend()
	f.time = f.time.Add(sweepEvery)
	if err := f.Take("busy"); err != nil {
		t.Fatal(err)
	}
	if n := len(f.buckets); n != 1 {
		t.Errorf("%d buckets are kept, want one", n)
	}
	f.time = f.time.Add(20 * time.Second)
	if n, _ := f.spend(); n > 30 {
		t.Errorf("%d tokens, more than the burst", n)
	}
}
