package plan

import (
	"net/url"
	"strconv"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// validateExternal finds what the external groups and the ports that lead to them do not agree on.
func validateExternal(spec *v1alpha1.ServiceGroupSpec, root *field.Path) []Problem {
	var problems []Problem
	for i := range spec.Groups {
		group := &spec.Groups[i]
		if group.External == nil {
			continue
		}
		problems = append(problems, validateNumbers(spec, group.Name, root.Child("ports"))...)
		if group.External.HealthCheck != nil {
			at := root.Child("groups").Index(i).Child("external", "healthCheck")
			problems = append(problems, validateHealthCheck(spec, group, at)...)
		}
	}
	return problems
}

// validateNumbers finds the ports that lead to an external group with a name for a targetPort.
func validateNumbers(spec *v1alpha1.ServiceGroupSpec, group string, path *field.Path) []Problem {
	var problems []Problem
	for i := range spec.Ports {
		port, at := &spec.Ports[i], path.Index(i)
		target, ok := TargetOf(port, group)
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

func validateHealthCheck(spec *v1alpha1.ServiceGroupSpec, group *v1alpha1.Group, path *field.Path) []Problem {
	var problems []Problem
	check := group.External.HealthCheck
	if _, ok := ServedOf(spec).CheckedPort(group); !ok && !isExternalName(spec) {
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
