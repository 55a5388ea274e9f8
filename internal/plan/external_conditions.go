package plan

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// notAllowed says for every external group what of its spec may not be served, and what to do.
func notAllowed(o Outcome) []string {
	var out []string
	for i := range o.Members {
		external := o.Members[i].External
		if external == nil {
			continue
		}
		if external.NoRanges {
			out = append(out, fmt.Sprintf("spec.groups[%d].external.hostname: %s: not looked up, since the manager allows no addresses outside the cluster; "+
				"ask who runs the cluster to set the manager's --external-ranges", i, external.Hostname))
		}
		field := fmt.Sprintf("spec.groups[%d].external.addresses: ", i)
		var never, ranges []string
		for _, address := range external.NotAllowed {
			if addressable(address) {
				ranges = append(ranges, address.String())
			} else {
				never = append(never, address.String())
			}
		}
		if len(ranges) > 0 {
			out = append(out, field+joinListed(ranges, ", ")+": not in the ranges that the manager allows; "+
				"ask who runs the cluster to add it to the manager's --external-ranges, or use another address")
		}
		if len(never) > 0 {
			out = append(out, field+joinListed(never, ", ")+": loopback, link-local, multicast and unspecified addresses are never served; use another address")
		}
	}
	return out
}

// resolvedRefs is the condition ResolvedRefs, of the hostnames of what is served; none if there is none to
// look up.
//
// It is False
//   - HostnameNotResolved: the last lookup of a hostname failed;
//   - AddressNotAllowed: a hostname has, beside others, addresses that may not be served.
//
// It is Unknown
//   - Pending: a hostname was not looked up yet.
func resolvedRefs(o Outcome) []metav1.Condition {
	condition := metav1.Condition{
		Type: v1alpha1.ConditionResolvedRefs, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonResolvedRefs,
		Message: "every hostname is resolved", ObservedGeneration: o.Group.Generation,
	}
	var failed, partly, pending []string
	there := false
	for i := range o.Members {
		external := o.Members[i].External
		if external == nil || external.Hostname == "" || external.NoRanges {
			continue
		}
		there = true
		name := "group " + o.Members[i].Group + ": hostname " + external.Hostname
		switch {
		case external.Failure != "":
			failed = append(failed, name+" is not resolved: "+external.Failure+stillServed(external))
		case external.Pending:
			pending = append(pending, name+" is looked up"+stillServed(external))
		}
		if n := external.AnswersNotAllowed; n > 0 && external.Failure == "" {
			partly = append(partly, fmt.Sprintf("%s leads to addresses that may not be served and are left out (%d); "+
				"ask who runs the cluster to allow them with the manager's --external-ranges", name, n))
		}
	}
	if !there {
		return nil
	}
	switch {
	case len(failed) > 0:
		condition.Status, condition.Reason = metav1.ConditionFalse, v1alpha1.ReasonHostnameNotResolved
	case len(partly) > 0:
		condition.Status, condition.Reason = metav1.ConditionFalse, v1alpha1.ReasonAddressNotAllowed
	case len(pending) > 0:
		condition.Status, condition.Reason = metav1.ConditionUnknown, v1alpha1.ReasonPending
	}
	if all := append(append(failed, partly...), pending...); len(all) > 0 {
		condition.Message = joinListed(all, ". ")
	}
	return []metav1.Condition{condition}
}

// stillServed says what a group serves while its hostname is not resolved.
func stillServed(external *External) string {
	switch {
	case len(external.Endpoints) == 0:
		return ""
	case external.Source != external.Hostname && external.Source != "":
		return "; until then the addresses of " + external.Source + " are served"
	case external.Source != external.Hostname:
		return "; until then the addresses that the group had before are served"
	}
	return "; the addresses found last are served"
}

// externalRemarks say what else there is to know of an external group that may be served all the same.
func externalRemarks(m *Membership) []string {
	if m.External.Surplus == 0 {
		return nil
	}
	return []string{fmt.Sprintf("group %s serves %d addresses of %s and leaves out the rest", m.Group, maxExternal, m.External.Hostname)}
}

// whyExternalNotReady says why an external group has no ready endpoint.
func whyExternalNotReady(m *Membership) string {
	external := m.External
	group := "group " + m.Group
	switch {
	case len(external.Endpoints) > 0:
		return "no address of " + group + " passes its health check"
	case len(external.NotAllowed) > 0 || external.NoRanges:
		return group + " has no address that may be served"
	case external.OtherFamily > 0:
		return group + " has no address of a family of the entry point"
	case external.Failure != "":
		return fmt.Sprintf("%s cannot look up %s: %s", group, external.Hostname, external.Failure)
	}
	return fmt.Sprintf("%s is looking up %s", group, external.Hostname)
}
