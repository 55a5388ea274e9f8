package servicegroup

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// countedLists counts the lists that the API server is asked for.
type countedLists struct {
	client.Reader
	n int
}

func (c *countedLists) List(context.Context, client.ObjectList, ...client.ListOption) error {
	c.n++
	return nil
}

func TestNobodyAsksForAllServicesWhileItIsTooEarlyToTryAgain(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	options, lists := Options{Clock: clock, RetryMin: time.Minute, RetryMax: time.Minute}, &countedLists{}
	r := &Reconciler{live: lists, tries: newTries(options), exposed: newPerGroup[exposedGroups](), options: options}
	s := &plan.Snapshot{Group: &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "tenant", UID: "u"}}}
	key, a := client.ObjectKeyFromObject(s.Group), attemptOf(s, plan.FromNewest)
	r.tries.held(key, plan.FromNewest, a, 30001)
	r.tries.held(key, plan.FromNewest, a, 30002)

	observe := func(want int) {
		t.Helper()
		if err := r.observeAnswers(t.Context(), s); err != nil || lists.n != want {
			t.Fatalf("%d lists of all Services (error %v), want %d", lists.n, err, want)
		}
	}
	observe(1)
	r.tries.refuse(key, plan.FromNewest, a, plan.Refusal{Reason: v1alpha1.ReasonNodePortUnavailable})
	for range 10 {
		clock.SetTime(clock.Now().Add(claimsAge + time.Millisecond))
		observe(1)
	}
}
