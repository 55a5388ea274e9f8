package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// Outcome is what a reconciliation came to, from which the status is computed.
type Outcome struct {
	// Group is the ServiceGroup, with the status it has.
	Group *v1alpha1.ServiceGroup
	// Problems are those of its spec.
	Problems []Problem
	// Refusal is why the API server did not take the Service; nil when it did. Lost is why it did not
	// take the one of the accepted spec either, where that is gone or was edited.
	Refusal, Lost *Refusal
	// Unexposed are why the Services of some groups could not be written (spec.exposeGroups).
	Unexposed []Refusal
	// Service is the generated Service as it is; nil when there is none.
	Service *corev1.Service
	// Unreadable is why Service does not say what it was last applied from; nil if it does.
	Unreadable error
	// Entry is what is served: the accepted spec, resolved.
	Entry EntryPoint
	// Members are its groups, and Trimmed what was left out of them; nil if nothing was.
	Members []Membership
	Trimmed *Trimmed
	// Slices are all EndpointSlices as written.
	Slices []*discoveryv1.EndpointSlice
	// Programming is how far the agents are with it; nil where nobody asks them.
	Programming *Programming

	// coarse leaves numbers of pods out of messages.
	coarse bool
}

// Report is a status, exact and without the numbers of pods, which change all the time.
type Report struct {
	Status, Coarse v1alpha1.ServiceGroupStatus
}

// ReportOf is the status of a ServiceGroup. Its conditions have no lastTransitionTime.
func ReportOf(o Outcome) Report {
	report := Report{Status: statusOf(o)}
	o.coarse = true
	report.Coarse = statusOf(o)
	forgetCounts(&report.Coarse)
	return report
}

// pausedReport is the status so far, with the word that nobody keeps it up. observedGeneration stays, too: the
// spec of now was not looked at, and who waits for it goes on waiting.
func pausedReport(sg *v1alpha1.ServiceGroup) Report {
	status := sg.Status.DeepCopy()
	paused := metav1.Condition{
		Type: v1alpha1.ConditionPaused, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonPaused, ObservedGeneration: sg.Generation,
		Message: "spec.paused: true: the Service and its EndpointSlices stay as they are, also when pods come and go; set it to false to go on",
	}
	at := slices.IndexFunc(status.Conditions, func(c metav1.Condition) bool { return c.Type == paused.Type })
	if at < 0 {
		status.Conditions = append(status.Conditions, paused)
	} else {
		status.Conditions[at] = paused
	}
	return Report{Status: *status, Coarse: *status}
}

// statusOf is the status. Without a Service the addresses of the status so far are kept.
func statusOf(o Outcome) v1alpha1.ServiceGroupStatus {
	status := v1alpha1.ServiceGroupStatus{ObservedGeneration: o.Group.Generation, Conditions: conditions(o)}
	if o.Service == nil {
		old := o.Group.Status.DeepCopy()
		status.ClusterIP, status.ClusterIPs = old.ClusterIP, old.ClusterIPs
		status.Ports, status.PortSummary = old.Ports, old.PortSummary
		status.HealthCheckNodePort = old.HealthCheckNodePort
		status.GroupSummary = fmt.Sprintf("0/%d", len(o.Group.Spec.Groups))
		return status
	}
	status.ClusterIP, status.ClusterIPs = o.Service.Spec.ClusterIP, slices.Clone(o.Service.Spec.ClusterIPs)
	status.HealthCheckNodePort = o.Service.Spec.HealthCheckNodePort
	status.Ports = portStatuses(o)
	status.PortSummary = PortSummary(status.Ports)
	status.ExternalSummary = externalSummary(o.Service)
	o.Service.Status.LoadBalancer.DeepCopyInto(&status.LoadBalancer)
	if o.Unreadable != nil { // what is behind the Service stays as it was
		old := o.Group.Status.DeepCopy()
		status.Ports, status.PortSummary = old.Ports, old.PortSummary
		status.Groups, status.GroupSummary = old.Groups, old.GroupSummary
		return status
	}
	ready := 0
	for _, m := range o.Members {
		status.Groups = append(status.Groups, v1alpha1.GroupStatus{Name: m.Group, Matched: m.Matched, Ready: m.Ready, LeftOut: m.LeftOut})
		if m.Ready > 0 {
			ready++
		}
	}
	if len(o.Members) > 0 {
		status.GroupSummary = fmt.Sprintf("%d/%d", ready, len(o.Members))
	}
	return status
}

// portStatuses are the Service's ports in the order of the served spec.
func portStatuses(o Outcome) []v1alpha1.PortStatus {
	var out []v1alpha1.PortStatus
	ports := PortsOf(o.Service)
	for i := range o.Entry.Ports {
		want := portNumber{o.Entry.Ports[i].Number, o.Entry.Ports[i].Protocol}
		for _, p := range ports {
			if want == (portNumber{p.Port, p.Protocol}) {
				out = append(out, p)
			}
		}
	}
	return out
}

// PortsOf are the ports of a Service.
func PortsOf(svc *corev1.Service) []v1alpha1.PortStatus {
	var out []v1alpha1.PortStatus
	for _, p := range svc.Spec.Ports {
		out = append(out, v1alpha1.PortStatus{Name: p.Name, Port: p.Port, Protocol: p.Protocol, NodePort: p.NodePort})
	}
	return out
}

// PortSummary writes ports as kubectl does for Services.
func PortSummary(ports []v1alpha1.PortStatus) string {
	parts := make([]string, 0, len(ports))
	for _, p := range ports {
		if p.NodePort != 0 {
			parts = append(parts, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
		} else {
			parts = append(parts, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	return strings.Join(parts, ",")
}

// externalSummary writes what leads to a Service from outside as kubectl does.
func externalSummary(svc *corev1.Service) string {
	switch svc.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return svc.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var addresses []string
		for _, ingress := range svc.Status.LoadBalancer.Ingress {
			addresses = append(addresses, cmp.Or(ingress.IP, ingress.Hostname))
		}
		return cmp.Or(strings.Join(addresses, ","), "<pending>")
	}
	return ""
}

// undecided says that a status would be a guess while there is already one of this spec: a name was not
// looked up yet, as after a restart of the manager.
func undecided(o Outcome) bool {
	return slices.ContainsFunc(o.Members, func(m Membership) bool { return m.External != nil && m.External.Pending }) &&
		slices.ContainsFunc(o.Group.Status.Conditions, func(c metav1.Condition) bool { return c.ObservedGeneration == o.Group.Generation })
}

// StatusChange says what a new status changes.
type StatusChange string

const (
	// Unchanged: nothing differs.
	Unchanged StatusChange = "Unchanged"
	// CountsChanged: only numbers of pods differ, also in messages, and none of them became or ceased to
	// be zero.
	// With thousands of pods that happens all the time and tells nobody anything at once.
	CountsChanged StatusChange = "CountsChanged"
	// Changed: something differs that a user waits for.
	Changed StatusChange = "Changed"
)

// DiffStatus compares a status with a report by meaning: the times of conditions do not count. The
// report that was written last tells whether only numbers changed; without it only those outside of
// messages are known to.
func DiffStatus(old *v1alpha1.ServiceGroupStatus, written *Report, now *Report) StatusChange {
	if SameStatus(old, &now.Status) {
		return Unchanged
	}
	coarse := comparableStatus(old)
	forgetCounts(coarse)
	if written != nil && SameStatus(old, &written.Status) {
		coarse = &written.Coarse
	}
	if SameStatus(coarse, &now.Coarse) {
		return CountsChanged
	}
	return Changed
}

// SameStatus reports whether two statuses say the same.
func SameStatus(a, b *v1alpha1.ServiceGroupStatus) bool {
	return apiequality.Semantic.DeepEqual(comparableStatus(a), comparableStatus(b))
}

func comparableStatus(in *v1alpha1.ServiceGroupStatus) *v1alpha1.ServiceGroupStatus {
	out := in.DeepCopy()
	for i := range out.Conditions {
		out.Conditions[i].LastTransitionTime.Reset()
	}
	return out
}

func forgetCounts(status *v1alpha1.ServiceGroupStatus) {
	for i := range status.Groups {
		status.Groups[i].Matched = min(status.Groups[i].Matched, 1)
		status.Groups[i].Ready = min(status.Groups[i].Ready, 1)
		status.Groups[i].LeftOut = min(status.Groups[i].LeftOut, 1)
	}
}
