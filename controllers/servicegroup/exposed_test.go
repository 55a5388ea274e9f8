package servicegroup

import (
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

func TestGroupsOfThePastAreForgotten(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	options := Options{Clock: clock, RetryMin: time.Minute, RetryMax: time.Minute}
	r := &Reconciler{
		tries: newTries(options), exposed: newPerGroup[exposedGroups](), writes: newWrites(), lag: newSliceLag(clock), options: options,
	}
	s := &plan.Snapshot{Group: &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "tenant", UID: "u"}}}
	key := client.ObjectKeyFromObject(s.Group)
	for i := range 100 { // a group that is renamed over and over, always to a name that is taken
		group := "g" + strconv.Itoa(i)
		s.Accepted = &plan.Accepted{Entry: plan.EntryPoint{ExposeGroups: true, Groups: []plan.Group{{Group: v1alpha1.Group{Name: group}}}}}
		r.forgetUnexposed(s)
		r.expose(key, group)
		source := plan.FromGroup(group)
		r.tries.refuse(key, source, attemptOf(s, source), plan.Refusal{Reason: v1alpha1.ReasonNameTaken})
		r.writes.found(serviceKey(key, group), true)
	}
	var tried int
	r.tries.known.ifKnown(key, func(all *map[plan.Source]*try) { tried = len(*all) })
	if exposed := len(r.exposedGroups(key)); exposed != 1 || tried != 1 || len(r.writes.services.entries) != 1 {
		t.Errorf("%d groups, %d tries, %d Services are remembered, want those of the one group", exposed, tried, len(r.writes.services.entries))
	}
}
