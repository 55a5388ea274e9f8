package plan

import (
	"encoding/json"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// Problem is a mistake in a spec that the schema of the API cannot show.
type Problem struct {
	// Field is the path of the field in the ServiceGroup.
	Field string
	// Value is the value found there.
	Value string
	// Cause says what is wrong with it.
	Cause string
	// Remedy says what to do.
	Remedy string
	// Budget reports whether the field is no mistake but too large.
	Budget bool
}

// maxShown bounds what a problem shows of what the user wrote.
const maxShown = 256

// String is the problem as one sentence for a condition.
func (p Problem) String() string {
	return fmt.Sprintf("%s: %s: %s; %s", Shorten(p.Field, maxShown), Shorten(p.Value, maxShown), Shorten(p.Cause, maxShown), p.Remedy)
}

// Validate returns the problems of a spec that the API server accepted, in the order of the spec:
// what the schema and its CEL rules cannot express, so that neither a Service nor its
// EndpointSlices can be built from it. A spec without problems may still be refused by the API
// server, for example because another Service holds the nodePort.
func Validate(spec *v1alpha1.ServiceGroupSpec) []Problem {
	root := field.NewPath("spec")
	var problems []Problem
	for i := range spec.Groups {
		problems = append(problems, validateGroup(&spec.Groups[i], root.Child("groups").Index(i))...)
	}
	for i := range spec.Ports {
		problems = append(problems, validatePort(&spec.Ports[i], root.Child("ports").Index(i))...)
	}
	problems = append(problems, validateExternal(spec, root)...)
	problems = append(problems, validateFamilies(spec, root)...)
	problems = append(problems, validateLoadBalancer(spec, root)...)
	problems = append(problems, validateMetadata(spec.ServiceMetadata, root.Child("serviceMetadata"))...)
	return problems
}

func validateGroup(group *v1alpha1.Group, path *field.Path) []Problem {
	if _, err := metav1.LabelSelectorAsSelector(group.Selector); err != nil {
		return []Problem{{
			Field: path.Child("selector").String(), Value: asJSON(group.Selector),
			Cause:  err.Error(),
			Remedy: "In and NotIn need values, Exists and DoesNotExist take none, keys and values must be valid labels",
		}}
	}
	return nil
}

// asJSON shows a value as the user wrote it; metav1.FormatLabelSelector shows nothing of a bad one.
func asJSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

func validatePort(port *v1alpha1.Port, path *field.Path) []Problem {
	problems := validateTargetPort(port.TargetPort, path.Child("targetPort"))
	for i := range port.Backends {
		at := path.Child("backends").Index(i).Child("targetPort")
		problems = append(problems, validateTargetPort(port.Backends[i].TargetPort, at)...)
	}
	if port.AppProtocol == nil {
		return problems
	}
	if errs := validation.IsQualifiedName(*port.AppProtocol); len(errs) > 0 {
		problems = append(problems, Problem{
			Field: path.Child("appProtocol").String(), Value: strconv.Quote(*port.AppProtocol),
			Cause: errs[0], Remedy: "use a registered name such as http, or a prefixed one such as kubernetes.io/h2c",
		})
	}
	return problems
}

func validateTargetPort(target *intstr.IntOrString, path *field.Path) []Problem {
	if target == nil {
		return nil
	}
	var errs []string
	value, remedy := strconv.Itoa(int(target.IntVal)), "give a number from 1 to 65535"
	if target.Type == intstr.String {
		value, remedy = strconv.Quote(target.StrVal), "give the name of a container port, or a number without quotes"
		errs = validation.IsValidPortName(target.StrVal)
	} else {
		errs = validation.IsValidPortNum(int(target.IntVal))
	}
	if len(errs) == 0 {
		return nil
	}
	return []Problem{{Field: path.String(), Value: value, Cause: errs[0], Remedy: remedy}}
}

func validateFamilies(spec *v1alpha1.ServiceGroupSpec, root *field.Path) []Problem {
	var problems []Problem
	if ips := spec.ClusterIPs; len(ips) == 2 && netutils.IsIPv6String(ips[0]) == netutils.IsIPv6String(ips[1]) {
		problems = append(problems, Problem{
			Field: root.Child("clusterIPs").String(), Value: fmt.Sprintf("%q", ips),
			Cause: "both addresses are of one family", Remedy: "give one IPv4 and one IPv6 address",
		})
	}
	if f := spec.IPFamilies; len(f) == 2 && f[0] == f[1] {
		problems = append(problems, Problem{
			Field: root.Child("ipFamilies").String(), Value: fmt.Sprintf("%q", f),
			Cause: "both entries are the same family", Remedy: fmt.Sprintf("give %s and %s, or one of them", corev1.IPv4Protocol, corev1.IPv6Protocol),
		})
	}
	return problems
}
