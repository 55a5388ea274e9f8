package servicegroup

import (
	"math"
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

func reportOf(node, version string, at time.Time) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name:        v1alpha1.LeasePrefix + node,
			Annotations: map[string]string{v1alpha1.AnnotationServices: version, v1alpha1.AnnotationEndpointSlices: version},
		},
		Spec: coordinationv1.LeaseSpec{RenewTime: ptr.To(metav1.NewMicroTime(at)), LeaseDurationSeconds: ptr.To[int32](180)},
	}
}

func TestAgentsAreWaitedFor(t *testing.T) {
	clock := testingclock.NewFakePassiveClock(time.Unix(1_000_000, 0))
	a := newAgents(clock)
	sg := &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Generation: 1}}
	service := func(version string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}}
	}
	expect := func(what string, version string, agents int, late bool, behind ...string) {
		t.Helper()
		got := a.programming(sg, service(version), nil)
		slices.Sort(got.Behind)
		if got.Agents != agents || got.Late != late || !slices.Equal(got.Behind, behind) {
			t.Errorf("%s: %+v, want %d agents, late %v, behind %v", what, got, agents, late, behind)
		}
	}
	expect("without reports", "100", 0, false)
	a.set(reportOf("node1", "99", clock.Now()))
	a.set(reportOf("node2", "100", clock.Now()))
	expect("one agent is behind", "100", 2, false, "node1")
	expect("the target stays where it was for this generation", "200", 2, false, "node1")
	key := client.ObjectKeyFromObject(sg)
	if wait := a.lookAgain(key); wait != lateAfter {
		t.Errorf("it is looked at again after %s, not when the agents are late", wait)
	}
	clock.SetTime(clock.Now().Add(lateAfter))
	expect("it takes long", "100", 2, true, "node1")
	if woken := a.set(reportOf("node1", "98", clock.Now())); len(woken) > 0 {
		t.Errorf("an agent that is still behind wakes %v", woken)
	}
	if woken := a.set(reportOf("node1", "150", clock.Now())); !slices.Equal(woken, []types.NamespacedName{key}) {
		t.Errorf("the last agent wakes %v", woken)
	}
	if woken := a.set(reportOf("node1", "151", clock.Now())); len(woken) > 0 {
		t.Errorf("a renewal wakes %v", woken)
	}
	expect("it is there", "100", 2, true)

	sg.Generation = 2
	expect("a new generation", "200", 2, false, "node1", "node2")
	a.set(reportOf("node2", "200", clock.Now()))
	clock.SetTime(clock.Now().Add(170 * time.Second))
	a.set(reportOf("node2", "200", clock.Now()))
	clock.SetTime(clock.Now().Add(20 * time.Second))
	expect("node1 stopped reporting", "200", 1, true)
	a.delete(reportOf("node2", "", clock.Now()))
	expect("node2 is gone", "200", 0, true)

	sg.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionTrue, ObservedGeneration: 2}}
	expect("somebody else says that it is programmed", "200", 0, true)
	a.set(reportOf("node2", "199", clock.Now()))
	expect("somebody else says so while node2 is behind", "200", 1, true, "node2")
	a.set(reportOf("node2", "200", clock.Now()))
	expect("node2 has it", "200", 1, true)
	if got := a.programming(sg, service("300"), nil); len(got.Behind) > 0 || got.Agents == 0 {
		t.Errorf("what is programmed is asked again: %+v", got)
	}
	if len(a.waiting) > 0 {
		t.Error("it still waits")
	}
}

// TestAgentsWaitForRemovals: a ServiceGroup waits for the revision at which its EndpointSlices were
// deleted, which only the event tells.
func TestAgentsWaitForRemovals(t *testing.T) {
	clock := testingclock.NewFakePassiveClock(time.Unix(1_000_000, 0))
	a := newAgents(clock)
	sg := &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Generation: 1}}
	key, service := client.ObjectKeyFromObject(sg), &corev1.Service{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "100"}}
	a.set(reportOf("node1", "100", clock.Now()))
	a.removing(key, "refused")()
	a.removing(key, "a")
	if got := a.programming(sg, service, nil); got.Removing != 1 || len(got.Behind) > 0 {
		t.Errorf("before the event: %+v", got)
	}
	if woken := a.removed(key, "a", "101"); len(woken) > 0 {
		t.Errorf("the event wakes %v while the agent is behind", woken)
	}
	if got := a.programming(sg, service, nil); got.Removing != 0 || len(got.Behind) != 1 {
		t.Errorf("after the event: %+v", got)
	}
	if woken := a.set(reportOf("node1", "101", clock.Now())); !slices.Contains(woken, key) {
		t.Error("the agent that has dropped it wakes nobody")
	}
	if got := a.programming(sg, service, nil); got.Removing != 0 || len(got.Behind) > 0 {
		t.Errorf("after the report: %+v", got)
	}
	a.removing(key, "b")
	sg.Generation = 2
	a.programming(sg, service, nil)
	a.set(reportOf("node1", "200", clock.Now()))
	if woken := a.removed(key, "b", "150"); !slices.Contains(woken, key) {
		t.Error("an event that comes last wakes nobody")
	}
	a.forget(key)
	if len(a.removals)+len(a.waiting) > 0 {
		t.Error("something is kept of what is gone")
	}
}

// TestAgentsThatStopReporting: an agent whose Lease ends counts no more, whatever somebody writes into
// it, and whoever waited for it is woken.
func TestAgentsThatStopReporting(t *testing.T) {
	clock := testingclock.NewFakePassiveClock(time.Unix(1_000_000, 0))
	a := newAgents(clock)
	sg := &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Generation: 1}}
	key, service := client.ObjectKeyFromObject(sg), &corev1.Service{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "100"}}
	if a.programming(sg, service, nil); !slices.Contains(a.set(reportOf("node1", "100", clock.Now())), key) {
		t.Error("the first agent wakes nobody")
	}
	edited := reportOf("node2", "99999999999999999999", clock.Now().AddDate(100, 0, 0))
	edited.Spec.LeaseDurationSeconds = ptr.To[int32](math.MaxInt32)
	a.set(edited)
	if got := a.programming(sg, service, nil); !slices.Equal(got.Behind, []string{"node2"}) {
		t.Errorf("an edited Lease: %+v", got)
	}
	clock.SetTime(clock.Now().Add(longestLease))
	a.set(reportOf("node1", "100", clock.Now()))
	if woken := a.expire(); len(woken) > 0 {
		t.Errorf("%v is woken too early", woken)
	}
	clock.SetTime(clock.Now().Add(time.Second))
	if woken := a.expire(); !slices.Contains(woken, key) {
		t.Error("nobody is woken when the agent that was behind stops counting")
	}
	if len(a.expiry.items) != 1 || len(a.kinds[0].agents.items) != 1 || len(a.kinds[1].agents.items) != 1 {
		t.Error("the agent that is gone is kept")
	}
}
