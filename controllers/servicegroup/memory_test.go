package servicegroup

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

var someGroup = types.NamespacedName{Namespace: "ns", Name: "some"}

func newTestMemory() (*memory, *clocktesting.FakePassiveClock) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	return newMemory(Options{Clock: clock, RetryMin: time.Second, RetryMax: 5 * time.Second}.withDefaults()), clock
}

func TestRefusalsAreTriedAgainEverMoreSeldom(t *testing.T) {
	mem, clock := newTestMemory()
	try := attempt{generation: 1}
	for _, want := range []time.Duration{1, 2, 4, 5, 5} {
		if got := mem.refuse(someGroup, try, plan.Refusal{Message: "no"}); got != want*time.Second {
			t.Errorf("wait %s, want %ds", got, want)
		}
		if refusal, wait := mem.recall(someGroup, try); refusal == nil || refusal.Message != "no" || wait != want*time.Second {
			t.Errorf("recalled %v for %s, want it for %ds", refusal, wait, want)
		}
		clock.SetTime(clock.Now().Add(want * time.Second))
		if refusal, _ := mem.recall(someGroup, try); refusal != nil {
			t.Errorf("recalled %v when it is time to try again", refusal)
		}
	}
	mem.refuse(someGroup, try, plan.Refusal{})
	if refusal, _ := mem.recall(someGroup, attempt{generation: 2}); refusal != nil {
		t.Error("a new spec is not tried at once")
	}
	if got := mem.refuse(someGroup, attempt{generation: 2}, plan.Refusal{}); got != time.Second {
		t.Errorf("the wait for a new spec begins at %s", got)
	}
	mem.accept(someGroup)
	if refusal, _ := mem.recall(someGroup, attempt{generation: 2}); refusal != nil {
		t.Error("recalled after acceptance")
	}
}

func TestCountsAreHeldBackFromTheFirstChange(t *testing.T) {
	mem, clock := newTestMemory()
	mem.options.CountRefresh = 10 * time.Second
	for _, step := range []struct {
		after time.Duration
		due   bool
		wait  time.Duration
	}{{0, false, 10 * time.Second}, {4 * time.Second, false, 6 * time.Second}, {6 * time.Second, true, 0}} {
		clock.SetTime(clock.Now().Add(step.after))
		if due, wait := mem.deferCounts(someGroup); due != step.due || wait != step.wait {
			t.Errorf("due %t in %s, want %t in %s", due, wait, step.due, step.wait)
		}
	}
	mem.countsWritten(someGroup)
	if due, wait := mem.deferCounts(someGroup); due || wait != 10*time.Second {
		t.Errorf("after the write: due %t in %s", due, wait)
	}
}

func TestWaitingForTheCacheHasAnEnd(t *testing.T) {
	mem, clock := newTestMemory()
	mem.await(someGroup)
	if !mem.isWaiting(someGroup) || mem.stale(someGroup) {
		t.Error("gives up at once")
	}
	clock.SetTime(clock.Now().Add(staleLimit))
	if !mem.stale(someGroup) {
		t.Error("never gives up")
	}
	mem.caughtUp(someGroup)
	if mem.isWaiting(someGroup) || mem.stale(someGroup) {
		t.Error("still waiting")
	}
}

func TestOwnWritesCountUntilTheCacheShowsThem(t *testing.T) {
	mem, _ := newTestMemory()
	at := func(uid types.UID, version string) *v1alpha1.ServiceGroup {
		return &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{UID: uid, ResourceVersion: version}}
	}
	mem.wroteGroup(someGroup, at("u", "10"))
	if got := mem.latestGroup(someGroup, at("u", "9")); got.ResourceVersion != "10" {
		t.Errorf("the cache is behind: got %s", got.ResourceVersion)
	}
	if got := mem.latestGroup(someGroup, at("u", "11")); got.ResourceVersion != "11" {
		t.Errorf("the cache is ahead: got %s", got.ResourceVersion)
	}
	mem.wroteGroup(someGroup, at("u", "20"))
	if got := mem.latestGroup(someGroup, at("other", "12")); got.UID != "other" {
		t.Errorf("another object of the name: got %s", got.UID)
	}
}
