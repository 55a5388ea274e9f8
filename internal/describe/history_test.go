package describe

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

var noon = metav1.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// accept stores the spec that the ServiceGroup has now as a revision that is some hours old at noon.
func (w *world) accept(number int64, hours int) *appsv1.ControllerRevision {
	spec := w.Group.Spec.DeepCopy()
	accepted := plan.Accepted{Spec: spec, Revision: plan.Revision{
		Name: plan.RevisionName(w.Group.Name, number), Number: number, Hash: plan.HashSpec(spec),
	}}
	stored := plan.NewRevision(w.Group, &accepted)
	stored.CreationTimestamp = metav1.NewTime(noon.Add(-time.Duration(hours) * time.Hour))
	return stored
}

// grown is a ServiceGroup with the revisions 2, 4 and 5, of which 4 cannot be read.
func grown() (*world, []appsv1.ControllerRevision) {
	w := populated()
	ports := w.Group.Spec.Ports
	w.Group.Spec.Ports = ports[:1]
	second := w.accept(2, 50)
	w.Group.Spec.Type = corev1.ServiceTypeClusterIP
	fourth := w.accept(4, 3)
	fourth.Data.Raw = []byte(`{"groups":[]}`)
	w.Group.Spec.Ports, w.Group.Spec.Type = ports, corev1.ServiceTypeNodePort
	return w, []appsv1.ControllerRevision{*w.accept(5, 1), *fourth, *second}
}

func TestHistoryText(t *testing.T) {
	w, stored := grown()
	history := HistoryOf(w.Group, RevisionsOf(stored, w.Group))
	requireGolden(t, "history.txt", history.Text(false, noon))
	record, err := history.Revision(2)
	if err != nil {
		t.Fatal(err)
	}
	requireGolden(t, "history-revision.txt", record.Text(false, noon))

	w.Group.Spec.Type, w.Group.Spec.Paused = corev1.ServiceTypeLoadBalancer, true
	w.Group.Status.Conditions = nil
	w.condition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonRefused, "the API server refuses it. What was served before goes on being served")
	requireGolden(t, "history-refused.txt", HistoryOf(w.Group, RevisionsOf(stored, w.Group)).Text(false, noon))
	requireGolden(t, "history-none.txt", HistoryOf(newWorld().Group, nil).Text(false, noon))
}

// TestOnlyOwnRevisions: a ControllerRevision of somebody else is none, whatever it is called.
func TestOnlyOwnRevisions(t *testing.T) {
	w, stored := grown()
	stored[0].OwnerReferences[0].UID = "another"
	stored[1].Name = "web-04"
	if found := RevisionsOf(stored, w.Group); len(found) != 1 || found[0].Number != 2 {
		t.Errorf("%+v", found)
	}
}

func TestRollbackTarget(t *testing.T) {
	w, stored := grown()
	readable := []appsv1.ControllerRevision{stored[0], stored[2]}
	changed := w.Group.DeepCopy()
	changed.Spec.Type = corev1.ServiceTypeLoadBalancer
	for name, test := range map[string]struct {
		group     *v1alpha1.ServiceGroup
		stored    []appsv1.ControllerRevision
		to        int64
		got, says string
	}{
		"the one before":           {w.Group, readable, 0, "2", ""},
		"a chosen one":             {w.Group, stored, 2, "2", ""},
		"the served one":           {w.Group, stored, 5, "5", ""},
		"none of the number":       {w.Group, stored, 3, "", "ServiceGroup web has no revision 3; there is 2, 4, 5"},
		"unreadable":               {w.Group, stored, 4, "", "revision 4 of ServiceGroup web cannot be read (decoding ControllerRevision web-4: its content is not what annotation net.servicegroup.dev/spec-hash says); there is 2, 5"},
		"unreadable one before":    {w.Group, stored, 0, "", "revision 4 of ServiceGroup web cannot be read (decoding ControllerRevision web-4: its content is not what annotation net.servicegroup.dev/spec-hash says); there is 2, 5"},
		"nothing before":           {w.Group, stored[:1], 0, "", "ServiceGroup web has no revision before the one that is served; there is 5"},
		"nothing at all":           {w.Group, nil, 0, "", "ServiceGroup web has no revision before the one that is served; there is none, since no spec of it was accepted yet"},
		"the newest is not served": {changed, readable, 0, "", "the newest spec of ServiceGroup web is not served; --to-revision 5 takes it back, --to-revision chooses an older one (there is 2, 5)"},
		"chosen all the same":      {changed, readable, 5, "5", ""},
	} {
		record, err := HistoryOf(test.group, RevisionsOf(test.stored, test.group)).Target(test.to)
		got, says := "", ""
		if err != nil {
			says = err.Error()
		} else {
			got = fmt.Sprint(record.Revision)
		}
		if got != test.got || says != test.says {
			t.Errorf("%s: %q, %q", name, got, says)
		}
	}
}

// TestStatusOfWhatIsNotServed: an older spec is served than the newest, or nobody looks after it.
func TestStatusOfWhatIsNotServed(t *testing.T) {
	w := populated()
	w.Revision = 5
	w.Group.Spec.Ports = w.Group.Spec.Ports[:1]
	w.Group.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	w.Group.Spec.Paused = true
	w.Group.Status.Conditions = nil
	w.condition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonRefused, "the API server refuses it. What was served before goes on being served")
	w.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonFault, "creating EndpointSlice: exceeded quota; it is tried again, and what was served goes on being served")
	requireGolden(t, "status-behind.txt", StatusOf(&w.Observed).Text(false, Narrow))
}
