package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// Revisions are the newest resource versions of Services and of EndpointSlices: of those that belong
// to a ServiceGroup, or that an agent has programmed.
type Revisions struct {
	Services, EndpointSlices string
}

// RevisionsOf returns the revisions of what is written for a ServiceGroup.
func RevisionsOf(service *corev1.Service, written []*discoveryv1.EndpointSlice) Revisions {
	out := Revisions{Services: service.ResourceVersion}
	for _, slice := range written {
		if !covers(out.EndpointSlices, slice.ResourceVersion) {
			out.EndpointSlices = slice.ResourceVersion
		}
	}
	return out
}

// maxRevision is the length of the longest resource version that etcd gives, in digits.
const maxRevision = 19

// ReportedRevisions reads what an agent says in the annotations of its Lease. Whoever may write Leases may
// have edited it: what is no resource version counts as nothing programmed.
func ReportedRevisions(annotations map[string]string) Revisions {
	return Revisions{
		Services:       reportedRevision(annotations[v1alpha1.AnnotationServices]),
		EndpointSlices: reportedRevision(annotations[v1alpha1.AnnotationEndpointSlices]),
	}
}

func reportedRevision(text string) string {
	if len(text) > maxRevision {
		return ""
	}
	if n, err := strconv.ParseInt(text, 10, 64); err != nil || n <= 0 || strconv.FormatInt(n, 10) != text {
		return ""
	}
	return text
}

// OlderRevision reports whether a resource version is older than another of the same resource. It orders
// any texts, so that they can be sorted; only Covers tells what an agent has.
func OlderRevision(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// Covers says whether an agent that has programmed these revisions has programmed the wanted ones.
func (r Revisions) Covers(want Revisions) bool {
	return covers(r.Services, want.Services) && covers(r.EndpointSlices, want.EndpointSlices)
}

// covers says whether have is at least want; a want that is missing is always covered.
func covers(have, want string) bool {
	if want == "" || have == want {
		return true
	}
	order, err := resourceversion.CompareResourceVersion(have, want)
	return err == nil && order >= 0
}

// Programming is how far the agents are with what is written for a ServiceGroup.
type Programming struct {
	// Others says that the agents have no part in it: it has no virtual IP, or not on their data plane.
	Others bool
	// Agents is how many agents report.
	Agents int
	// Behind are the nodes whose agents have not programmed all of it.
	Behind []string
	// Removing is how many EndpointSlices were deleted of which it is not known yet when they were gone.
	Removing int
	// Late says that they have had enough time for it.
	Late bool
}

// programmedCondition decides Programmed. It speaks of what was written for a generation of the spec:
// once True it stays so for that generation, while pods come and go.
//
// It is False
//   - NotAccepted: the spec is not accepted, so there is nothing of it to program;
//   - Pending: at least one agent has not programmed it yet, or has not dropped what was removed for it.
//
// It is Unknown
//   - NoAgents: no agent reports.
func programmedCondition(o Outcome, accepted metav1.ConditionStatus) metav1.Condition {
	programmed := metav1.Condition{
		Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonProgrammed,
		Message: "every agent has programmed this spec", ObservedGeneration: o.Group.Generation,
	}
	switch {
	case accepted != metav1.ConditionTrue:
		programmed.Status, programmed.Reason = metav1.ConditionFalse, v1alpha1.ReasonNotAccepted
		programmed.Message = "the spec is not accepted"
	case o.Programming.Others:
		programmed.Message = "there is nothing for the agents to program"
	case o.Programming.Agents == 0:
		programmed.Status, programmed.Reason = metav1.ConditionUnknown, v1alpha1.ReasonNoAgents
		programmed.Message = "no agent reports; is the agent's DaemonSet running?"
	case len(o.Programming.Behind) > 0 || o.Programming.Removing > 0:
		programmed.Status, programmed.Reason = metav1.ConditionFalse, v1alpha1.ReasonPending
		programmed.Message = "the agents are programming it"
		switch {
		case !o.Programming.Late:
		case len(o.Programming.Behind) == 0:
			programmed.Message = fmt.Sprintf("%d deleted EndpointSlices still exist and are served; see their finalizers", o.Programming.Removing)
		default:
			behind := slices.Sorted(slices.Values(o.Programming.Behind))
			programmed.Message = "not programmed yet on " + joinListed(behind, ", ") + "; see the logs of the agent there"
		}
	}
	return programmed
}

// IsProgrammed says whether the status already says that this generation is programmed, which then is
// not asked again.
func IsProgrammed(sg *v1alpha1.ServiceGroup) bool {
	return slices.ContainsFunc(sg.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionProgrammed && c.Status == metav1.ConditionTrue && c.ObservedGeneration == sg.Generation
	})
}

// NodeOfLease returns the node whose agent writes a Lease of this name.
func NodeOfLease(name string) (string, bool) { return strings.CutPrefix(name, v1alpha1.LeasePrefix) }
