package describe

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// History is the accepted specs of a ServiceGroup that are kept.
type History struct {
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	Paused    bool            `json:"paused,omitempty"`
	Revisions []HistoryRecord `json:"revisions"`
	// Refused says why the spec of the ServiceGroup is not among them.
	Refused string `json:"refused,omitempty"`
	// behind reports whether the spec of the ServiceGroup is another than the served one.
	behind bool
}

// HistoryRecord is one accepted spec.
type HistoryRecord struct {
	Revision int64       `json:"revision"`
	Created  metav1.Time `json:"created"`
	// Served reports whether the Service follows it.
	Served bool                       `json:"served"`
	Spec   *v1alpha1.ServiceGroupSpec `json:"spec,omitempty"`
	// Unreadable says why there is no spec.
	Unreadable string `json:"unreadable,omitempty"`
}

// HistoryOf lists the accepted specs of a ServiceGroup, the oldest first.
func HistoryOf(sg *v1alpha1.ServiceGroup, revisions []Revision) History {
	out := History{
		Namespace: sg.Namespace, Name: sg.Name, Paused: sg.Spec.Paused,
		Revisions: make([]HistoryRecord, 0, len(revisions)), Refused: refusedOf(sg),
	}
	for i := range revisions {
		r := &revisions[i]
		record := HistoryRecord{Revision: r.Number, Created: r.Stored.CreationTimestamp, Served: i == len(revisions)-1, Spec: r.Spec}
		if r.Unreadable != nil {
			record.Unreadable = r.Unreadable.Error()
		}
		out.Revisions = append(out.Revisions, record)
	}
	if n := len(revisions); n > 0 {
		out.behind = revisions[n-1].Hash != plan.HashSpec(&sg.Spec)
	}
	return out
}

// refusedOf is why the newest spec as a whole is not accepted; empty if it is.
func refusedOf(sg *v1alpha1.ServiceGroup) string {
	accepted := meta.FindStatusCondition(sg.Status.Conditions, v1alpha1.ConditionAccepted)
	if accepted == nil || accepted.Status != metav1.ConditionFalse || strings.HasSuffix(accepted.Message, plan.RestIsServed) {
		return ""
	}
	return accepted.Reason + ": " + accepted.Message
}

// Revision is the record of a number. The error lists those there are.
func (h History) Revision(number int64) (HistoryRecord, error) {
	at := slices.IndexFunc(h.Revisions, func(r HistoryRecord) bool { return r.Revision == number })
	if at < 0 {
		return HistoryRecord{}, fmt.Errorf("ServiceGroup %s has no revision %d; %s", h.Name, number, h.listed(nil))
	}
	return h.Revisions[at], nil
}

// Target is the record to roll back to: that of a number, or the one before the served one for 0. While
// the newest spec is not served, 0 could be meant for either of two, and is none.
func (h History) Target(number int64) (HistoryRecord, error) {
	if n := len(h.Revisions); number == 0 {
		switch {
		case h.behind:
			return HistoryRecord{}, fmt.Errorf("the newest spec of ServiceGroup %s is not served; --to-revision %d takes it back, --to-revision chooses an older one (%s)",
				h.Name, h.Revisions[n-1].Revision, h.listed(nil))
		case n < 2:
			return HistoryRecord{}, fmt.Errorf("ServiceGroup %s has no revision before the one that is served; %s", h.Name, h.listed(nil))
		}
		number = h.Revisions[n-2].Revision
	}
	record, err := h.Revision(number)
	if err == nil && record.Spec == nil {
		readable := func(r HistoryRecord) bool { return r.Spec != nil }
		return record, fmt.Errorf("revision %d of ServiceGroup %s cannot be read (%s); %s", number, h.Name, record.Unreadable, h.listed(readable))
	}
	return record, err
}

// listed names the revisions to choose from.
func (h History) listed(choose func(HistoryRecord) bool) string {
	var numbers []string
	for _, r := range h.Revisions {
		if choose == nil || choose(r) {
			numbers = append(numbers, fmt.Sprint(r.Revision))
		}
	}
	if len(numbers) == 0 {
		return "there is none, since no spec of it was accepted yet"
	}
	return "there is " + list(numbers)
}

// Text is the history for a terminal, with ages as of now.
func (h History) Text(p Paint, now metav1.Time) string {
	l := &lines{}
	l.add("%s", p.title(h.Namespace+"/"+h.Name))
	if len(h.Revisions) == 0 {
		l.add("No spec was accepted yet.")
	} else {
		t := table{}
		t.row("REVISION", "AGE", "SERVED", "SPEC")
		for i := range h.Revisions {
			t.row(h.Revisions[i].cells(p, now)...)
		}
		t.write(l)
	}
	var problems []Problem
	if h.Refused != "" {
		problems = append(problems, Problem{What: "the newest spec is not accepted (" + h.Refused + ")"})
	}
	if h.Paused {
		problems = append(problems, pausedProblem())
	}
	writeProblems(l, p, problems)
	return l.String()
}

func (r *HistoryRecord) cells(p Paint, now metav1.Time) []string {
	served := "-"
	if r.Served {
		served = "yes"
	}
	summary := p.bad("cannot be read: " + r.Unreadable)
	if r.Spec != nil {
		summary = summaryOf(r.Spec)
	}
	return []string{fmt.Sprint(r.Revision), duration.HumanDuration(now.Sub(r.Created.Time)), served, summary}
}

// summaryOf tells specs from each other at a glance.
func summaryOf(spec *v1alpha1.ServiceGroupSpec) string {
	if spec.Type == corev1.ServiceTypeExternalName {
		return "ExternalName " + spec.ExternalName
	}
	var ports, groups []string
	for i := range spec.Ports {
		ports = append(ports, portTitle(spec.Ports[i].Name, spec.Ports[i].Port, spec.Ports[i].Protocol))
	}
	for i := range spec.Groups {
		groups = append(groups, spec.Groups[i].Name)
	}
	kind := spec.Type
	if kind == "" {
		kind = corev1.ServiceTypeClusterIP
	}
	text := fmt.Sprintf("%s  groups %s", kind, list(groups))
	if len(ports) > 0 {
		text += "  ports " + list(ports)
	}
	return text
}

// Text is one record for a terminal, as of now.
func (r HistoryRecord) Text(p Paint, now metav1.Time) string {
	l := &lines{}
	served := ""
	if r.Served {
		served = ", served"
	}
	l.add("%s  %s old%s", p.title(fmt.Sprintf("revision %d", r.Revision)), duration.HumanDuration(now.Sub(r.Created.Time)), served)
	if r.Spec == nil {
		l.add("%s", p.bad("cannot be read: "+r.Unreadable))
		return l.String()
	}
	return l.String() + r.YAML()
}

// YAML is the spec as a manifest has it.
func (r HistoryRecord) YAML() string {
	text, err := yaml.Marshal(map[string]any{"spec": r.Spec})
	if err != nil { // these types cannot fail
		return ""
	}
	return string(text)
}
