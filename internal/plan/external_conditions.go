package plan

import "fmt"

// notAllowed says for every external group which of its addresses may not be served, and what to do.
func notAllowed(o Outcome) []string {
	var out []string
	for i := range o.Members {
		external := o.Members[i].External
		if external == nil || len(external.NotAllowed) == 0 {
			continue
		}
		field := fmt.Sprintf("spec.groups[%d].external.addresses: ", i)
		if external.Hostname != "" {
			field = fmt.Sprintf("spec.groups[%d].external.hostname: %s leads to ", i, external.Hostname)
		}
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

// externalRemarks say what else there is to know of an external group that may be served all the same.
func externalRemarks(m *Membership) []string {
	var out []string
	external := m.External
	if external.Failure != "" && len(external.Endpoints) > 0 {
		out = append(out, fmt.Sprintf("group %s keeps the addresses it had, since %s cannot be looked up: %s", m.Group, external.Hostname, external.Failure))
	}
	if external.Surplus > 0 {
		out = append(out, fmt.Sprintf("group %s serves %d addresses of %s and leaves out the rest", m.Group, maxExternal, external.Hostname))
	}
	return out
}

// whyExternalNotReady says why an external group has no ready endpoint.
func whyExternalNotReady(m *Membership) string {
	external := m.External
	group := "group " + m.Group
	switch {
	case len(external.Endpoints) > 0:
		return "no address of " + group + " passes its health check"
	case len(external.NotAllowed) > 0:
		return group + " has no address that may be served"
	case external.OtherFamily > 0:
		return group + " has no address of a family of the entry point"
	case external.Failure != "":
		return fmt.Sprintf("%s cannot look up %s: %s", group, external.Hostname, external.Failure)
	}
	return fmt.Sprintf("%s is looking up %s", group, external.Hostname)
}
