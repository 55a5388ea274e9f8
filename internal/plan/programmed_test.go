package plan

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

func TestRevisionsCover(t *testing.T) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "99"}}
	var written []*discoveryv1.EndpointSlice
	for _, version := range []string{"7", "101", "100"} {
		written = append(written, &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}})
	}
	want := RevisionsOf(service, written)
	if want != (Revisions{"99", "101"}) {
		t.Fatalf("revisions %v", want)
	}
	for _, test := range []struct {
		have Revisions
		want bool
	}{
		{Revisions{"99", "101"}, true},
		{Revisions{"1000", "1000"}, true},
		{Revisions{"98", "101"}, false},
		{Revisions{"99", "100"}, false},
		{Revisions{"", ""}, false},
		{Revisions{"opaque", "101"}, false},
	} {
		if got := test.have.Covers(want); got != test.want {
			t.Errorf("%v covers %v: %v, want %v", test.have, want, got, test.want)
		}
	}
	if !(Revisions{Services: "5"}).Covers(RevisionsOf(&corev1.Service{}, nil)) {
		t.Error("what has no slices waits for some")
	}
}

// FuzzReportedRevisions: whatever somebody writes into a Lease, it is a resource version or nothing, and
// never long.
func FuzzReportedRevisions(f *testing.F) {
	for _, seed := range []string{
		"", "0", "1", "42", "007", "-1", "+1", " 1", "1e9", "0x10", "1_000", "opaque", "\u0661",
		"9223372036854775807", "9223372036854775808", "99999999999999999999", strings.Repeat("9", 1<<18),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := ReportedRevisions(map[string]string{v1alpha1.AnnotationServices: text, v1alpha1.AnnotationEndpointSlices: "5"})
		if got.EndpointSlices != "5" {
			t.Errorf("%q changes what is said of EndpointSlices: %v", text, got)
		}
		if got.Services == "" {
			if got.Covers(Revisions{Services: "1"}) {
				t.Error("nothing covers something")
			}
			return
		}
		if got.Services != text || len(text) > maxRevision || strings.Trim(text, "0123456789") != "" {
			t.Errorf("%q is taken for %q", text, got.Services)
		}
		order, err := resourceversion.CompareResourceVersion(text, "5")
		if err != nil || OlderRevision(text, "5") != (order < 0) || got.Covers(Revisions{Services: "5"}) != (order >= 0) {
			t.Errorf("%q is compared as %d, %v", text, order, err)
		}
	})
}

func TestProgrammed(t *testing.T) {
	for _, test := range []struct {
		name     string
		accepted metav1.ConditionStatus
		agents   Programming
		status   metav1.ConditionStatus
		reason   string
		message  string
	}{
		{"every agent", metav1.ConditionTrue, Programming{Agents: 2}, metav1.ConditionTrue, v1alpha1.ReasonProgrammed, "every agent has programmed this spec"},
		{"no agent", metav1.ConditionTrue, Programming{}, metav1.ConditionUnknown, v1alpha1.ReasonNoAgents, "no agent reports; is the agent's DaemonSet running?"},
		{"just written", metav1.ConditionTrue, Programming{Agents: 2, Behind: []string{"b", "a"}}, metav1.ConditionFalse, v1alpha1.ReasonPending, "the agents are programming it"},
		{"late", metav1.ConditionTrue, Programming{Agents: 2, Behind: []string{"b", "a"}, Late: true}, metav1.ConditionFalse, v1alpha1.ReasonPending, "not programmed yet on a, b; see the logs of the agent there"},
		{"not gone yet", metav1.ConditionTrue, Programming{Agents: 2, Removing: 1}, metav1.ConditionFalse, v1alpha1.ReasonPending, "the agents are programming it"},
		{"held", metav1.ConditionTrue, Programming{Agents: 2, Removing: 3, Late: true}, metav1.ConditionFalse, v1alpha1.ReasonPending, "3 deleted EndpointSlices still exist and are served; see their finalizers"},
		{"refused", metav1.ConditionFalse, Programming{Agents: 2}, metav1.ConditionFalse, v1alpha1.ReasonNotAccepted, "the spec is not accepted"},
	} {
		group := &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
		got := programmedCondition(Outcome{Group: group, Programming: &test.agents}, test.accepted)
		if got.Status != test.status || got.Reason != test.reason || got.Message != test.message || got.ObservedGeneration != 3 {
			t.Errorf("%s: %+v", test.name, got)
		}
		group.Status.Conditions = []metav1.Condition{got}
		if IsProgrammed(group) != (test.status == metav1.ConditionTrue) {
			t.Errorf("%s: programmed %v", test.name, IsProgrammed(group))
		}
		group.Generation++
		if IsProgrammed(group) {
			t.Errorf("%s: a newer spec is programmed already", test.name)
		}
	}
}
