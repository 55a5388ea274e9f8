package servicegroup

import (
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	if !slices.Contains(a.waitingGroups(), client.ObjectKeyFromObject(sg)) {
		t.Error("the ServiceGroup does not wait")
	}
	clock.SetTime(clock.Now().Add(lateAfter))
	expect("it takes long", "100", 2, true, "node1")
	a.set(reportOf("node1", "150", clock.Now()))
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
	if len(a.waitingGroups()) > 0 {
		t.Error("it still waits")
	}
}
