package plan

import (
	"net/url"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// validateExternal finds what the external groups and the ports that lead to them do not agree on.
func validateExternal(spec *v1alpha1.ServiceGroupSpec, root *field.Path) []Problem {
	if !slices.ContainsFunc(spec.Groups, func(g v1alpha1.Group) bool { return g.External != nil }) {
		return nil
	}
	var problems []Problem
	ports := EntryPoint{Ports: resolvePorts(spec)}
	for i := range spec.Groups {
		group := &spec.Groups[i]
		if group.External == nil {
			continue
		}
		problems = append(problems, validateNumbers(spec.Ports, ports, group.Name, root.Child("ports"))...)
		if group.External.HealthCheck != nil && !isExternalName(spec) {
			at := root.Child("groups").Index(i).Child("external", "healthCheck")
			problems = append(problems, validateHealthCheck(ports, group, at)...)
		}
	}
	return problems
}

// validateNumbers finds the ports that lead to an external group with a name for a targetPort.
func validateNumbers(written []v1alpha1.Port, entry EntryPoint, group string, path *field.Path) []Problem {
	var problems []Problem
	for i := range entry.Ports {
		port, at := &written[i], path.Index(i)
		target, ok := entry.Ports[i].Target(group)
		if !ok || target.Type != intstr.String {
			continue
		}
		remedy := "give the number of the port"
		for j := range port.Backends {
			if port.Backends[j].Group == group {
				at = at.Child("backends").Index(j)
			}
		}
		if len(port.Backends) == 0 {
			remedy = "give the number of the port, or list the backends and give this group a targetPort of its own"
		}
		problems = append(problems, Problem{
			Field: at.Child("targetPort").String(), Value: strconv.Quote(target.StrVal),
			Cause: "group " + group + " is external, and only pods have ports with names", Remedy: remedy,
		})
	}
	return problems
}

func validateHealthCheck(entry EntryPoint, group *v1alpha1.Group, path *field.Path) []Problem {
	var problems []Problem
	check := group.External.HealthCheck
	if _, ok := entry.CheckedPort(&Group{Group: *group}); !ok {
		problems = append(problems, Problem{
			Field: path.Child("port").String(), Value: "none",
			Cause: "no TCP port leads to the group, so there is none to check by default", Remedy: "give the number of a TCP port to check",
		})
	}
	if check.HTTP != nil {
		if _, err := url.ParseRequestURI(check.HTTP.Path); err != nil && check.HTTP.Path != "" {
			problems = append(problems, Problem{
				Field: path.Child("http", "path").String(), Value: strconv.Quote(check.HTTP.Path),
				Cause: "not a valid path", Remedy: "write characters that a path cannot have as % and two hexadecimal digits",
			})
		}
	}
	return problems
}
