package plan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

const (
	// maxListed bounds the items a message lists; nobody reads more.
	maxListed = 10
	// maxMessage is the size of a condition's message that the API server takes. A bigger one would be no
	// condition at all.
	maxMessage = 32 << 10
)

// RestIsServed ends the message of a condition Accepted that is False for a part of the spec only.
const RestIsServed = ". Everything else is served"

// Refusal is why a Service could not be written although the spec has no problem of its own.
type Refusal struct {
	// Reason is one of the reasons of ConditionAccepted.
	Reason string
	// Message names field, value, cause and remedy.
	Message string
}

// conditions decides all conditions of a ServiceGroup.
//
// Accepted is False
//   - InvalidSpec: the spec has problems (Validate);
//   - OverBudget: the spec exceeds a budget, or for a part of it only, the pods that it selects do;
//   - NameTaken, NodePortUnavailable, ClusterIPUnavailable, Refused: the Service could not be
//     written (Refusal), or, while it is, the Service of a group (Unexposed);
//   - AddressNotAllowed: an external group has addresses that may not be served, or a hostname where
//     nothing external is allowed.
//
// Ready is False
//   - NotAccepted: there is no Service, so nothing is served;
//   - NoReadyEndpoints: a port of what is served has no ready endpoint.
//
// Ready is Unknown
//   - NotAccepted: the spec is refused, and no ControllerRevision says what is served.
//
// ResolvedRefs is there while what is served has hostnames (resolvedRefs).
//
// While Accepted is False, Ready and ResolvedRefs speak of what was served before and goes on being
// served.
func conditions(o Outcome) []metav1.Condition {
	accepted := metav1.Condition{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted,
		Message: fmt.Sprintf("Service %s serves this spec", o.Group.Name),
	}
	switch {
	case len(o.Problems) > 0:
		accepted.Status, accepted.Reason = metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec
		if !slices.ContainsFunc(o.Problems, func(p Problem) bool { return !p.Budget }) {
			accepted.Reason = v1alpha1.ReasonOverBudget
		}
		accepted.Message = joinListed(texts(o.Problems), ". ")
	case o.Refusal != nil:
		accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, o.Refusal.Reason, o.Refusal.Message
	}
	switch {
	case accepted.Status == metav1.ConditionFalse && o.Lost != nil:
		accepted.Message += ". The spec that was accepted before cannot be served again: " + o.Lost.Message
	case accepted.Status == metav1.ConditionFalse && o.Service != nil:
		accepted.Message += ". What was served before goes on being served"
	case accepted.Status == metav1.ConditionTrue && len(o.Unexposed) > 0:
		accepted.Status, accepted.Reason = metav1.ConditionFalse, o.Unexposed[0].Reason
		accepted.Message = joinListed(refusalTexts(o.Unexposed), ". ") + RestIsServed
	case accepted.Status == metav1.ConditionTrue && o.Trimmed != nil:
		accepted.Status, accepted.Reason = metav1.ConditionFalse, v1alpha1.ReasonOverBudget
		accepted.Message = o.trimmed() + RestIsServed
	case accepted.Status == metav1.ConditionTrue:
		if refused := notAllowed(o); len(refused) > 0 {
			accepted.Status, accepted.Reason = metav1.ConditionFalse, v1alpha1.ReasonAddressNotAllowed
			accepted.Message = joinListed(refused, ". ") + RestIsServed
		}
	}
	ready := readyCondition(o)
	accepted.ObservedGeneration, ready.ObservedGeneration = o.Group.Generation, o.Group.Generation
	out := []metav1.Condition{accepted}
	if o.Programming != nil {
		out = append(out, programmedCondition(o, accepted.Status))
	}
	out = slices.Concat(out, []metav1.Condition{ready}, abnormal(out), resolvedRefs(o))
	for i := range out {
		out[i].Message = Shorten(out[i].Message, maxMessage)
	}
	return out
}

// abnormal are the conditions that are there only while they are True: Stalled while the spec is not
// accepted, or else Reconciling while it is not programmed. kstatus takes them before Ready, which for a
// refused spec speaks of what was served before.
func abnormal(of []metav1.Condition) []metav1.Condition {
	for i, kind := range []string{v1alpha1.ConditionStalled, v1alpha1.ConditionReconciling} {
		if i < len(of) && of[i].Status != metav1.ConditionTrue {
			condition := of[i]
			condition.Type, condition.Status = kind, metav1.ConditionTrue
			return []metav1.Condition{condition}
		}
	}
	return nil
}

func readyCondition(o Outcome) metav1.Condition {
	ready := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonEndpointsReady,
		Message: "every port has a ready endpoint",
	}
	if o.Service == nil {
		ready.Status, ready.Reason = metav1.ConditionFalse, v1alpha1.ReasonNotAccepted
		ready.Message = "nothing is served before the spec is accepted"
		return ready
	}
	if o.Unreadable != nil {
		ready.Status, ready.Reason = metav1.ConditionUnknown, v1alpha1.ReasonNotAccepted
		ready.Message = fmt.Sprintf("%v; the EndpointSlices stay as they are until the spec is accepted", o.Unreadable)
		return ready
	}
	if o.Service.Spec.Type == corev1.ServiceTypeExternalName {
		ready.Reason, ready.Message = v1alpha1.ReasonExternalName, "the name leads to "+o.Service.Spec.ExternalName
		return ready
	}
	if without := portsWithoutEndpoint(o); len(without) > 0 {
		ready.Status, ready.Reason = metav1.ConditionFalse, v1alpha1.ReasonNoReadyEndpoints
		ready.Message = "no ready endpoint for " + joinListed(without, "; for ")
	}
	if ready.Status == metav1.ConditionTrue {
		if passed := passedBy(o); len(passed) > 0 {
			ready.Message += "; " + joinListed(passed, "; ")
		}
	}
	if remarks := append(restricted(o), remarks(o.Members)...); len(remarks) > 0 {
		ready.Message += "; " + joinListed(remarks, "; ")
	}
	return ready
}

// restricted says that somebody else restricts who may come in.
func restricted(o Outcome) []string {
	ranges := o.Service.Spec.LoadBalancerSourceRanges
	if len(ranges) == 0 || len(o.Group.Spec.LoadBalancerSourceRanges) > 0 || o.Refusal != nil || len(o.Problems) > 0 {
		return nil
	}
	return []string{"loadBalancerSourceRanges " + joinListed(ranges, ", ") + " of the Service are not from this ServiceGroup, and stay"}
}

// remarks say what else there is to know of groups that may be served all the same.
func remarks(members []Membership) []string {
	var out []string
	for i := range members {
		m := &members[i]
		if m.External != nil {
			out = append(out, externalRemarks(m)...)
			continue
		}
		if m.LeftOut > m.OtherFamily {
			out = append(out, fmt.Sprintf("group %s leaves out pods whose address no EndpointSlice may have (loopback, link-local, multicast)", m.Group))
		}
		if m.OtherFamily > 0 {
			out = append(out, fmt.Sprintf("group %s leaves out pods that have no address of a family of the entry point", m.Group))
		}
	}
	return out
}

func portsWithoutEndpoint(o Outcome) []string {
	if len(o.Entry.Ports) == 0 && !anyReady(o.Slices) {
		return []string{"any group: " + joinListed(whyNotReady(o, &Port{}), ", ")}
	}
	ready := readyPorts(o.Slices)
	var out []string
	for i := range o.Entry.Ports {
		port := &o.Entry.Ports[i]
		if ready[portName{port.Name, port.Protocol}] {
			continue
		}
		out = append(out, fmt.Sprintf("port %s: %s", titleOf(port), joinListed(whyNotReady(o, port), ", ")))
	}
	return out
}

// whyNotReady says for each group of a port why it has no ready endpoint there. It counts only the pods
// that lack a name: other messages stay the same while pods come
// and go.
func whyNotReady(o Outcome, port *Port) []string {
	var why []string
	for _, group := range o.Entry.GroupsOf(port) {
		at := slices.IndexFunc(o.Members, func(m Membership) bool { return m.Group == group })
		target, _ := port.Target(group)
		switch {
		case at >= 0 && o.Members[at].External != nil:
			why = append(why, whyExternalNotReady(&o.Members[at]))
		case at < 0 || o.Members[at].Matched == 0:
			why = append(why, "group "+group+" selects no pod")
		case o.Members[at].OtherFamily > 0 && len(o.Members[at].Pods) == 0:
			why = append(why, "no pod of group "+group+" has an address of a family of the entry point, "+joinFamilies(o.Service))
		case target.Type == intstr.String && len(o.Members[at].Pods) > 0 && lacking(&o.Members[at], target.StrVal, port.Protocol) == len(o.Members[at].Pods):
			why = append(why, nobodyHas(target.StrVal, group, o.pods(len(o.Members[at].Pods)), port.Protocol))
		case o.Members[at].Ready > 0 && target.Type == intstr.String:
			why = append(why, fmt.Sprintf("no ready pod of group %s has a container port named %s with protocol %s", group, target.StrVal, port.Protocol))
		default:
			why = append(why, "group "+group+" has no ready pod")
		}
	}
	return why
}

func joinFamilies(svc *corev1.Service) string {
	var out []string
	for _, family := range svc.Spec.IPFamilies {
		out = append(out, string(family))
	}
	return strings.Join(out, " and ")
}

func texts(problems []Problem) []string {
	out := make([]string, 0, len(problems))
	for _, p := range problems {
		out = append(out, p.String())
	}
	return out
}

func refusalTexts(refusals []Refusal) []string {
	out := make([]string, 0, len(refusals))
	for _, r := range refusals {
		out = append(out, r.Message)
	}
	return out
}

// Shorten is a text of at most so many bytes, with dots where the rest is missing.
func Shorten(text string, most int) string {
	const dots = "..."
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len(dots)], "") + dots
}

func joinListed(items []string, separator string) string {
	if more := len(items) - maxListed; more > 0 {
		items = append(slices.Clone(items[:maxListed]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(items, separator)
}
