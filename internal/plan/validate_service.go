package plan

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// reserved are the labels and annotations by which others tell whose a Service is and how to serve
// it, with what to use in their place.
var reserved = map[string]string{
	v1alpha1.LabelServiceProxyName:                "remove it: the operator sets it",
	corev1.IsHeadlessService:                      "remove it: Kubernetes sets it",
	discoveryv1.LabelServiceName:                  "remove it: Kubernetes sets it",
	discoveryv1.LabelManagedBy:                    "remove it: the operator sets it",
	corev1.AnnotationTopologyMode:                 "remove it and set trafficDistribution",
	corev1.DeprecatedAnnotationTopologyAwareHints: "remove it and set trafficDistribution",
	corev1.AnnotationLoadBalancerSourceRangesKey:  "remove it and set loadBalancerSourceRanges",
	corev1.LastAppliedConfigAnnotation:            "remove it: kubectl keeps it on the ServiceGroup",
}

const reservedPrefix = "net.servicegroup.dev/"

func validateMetadata(meta *v1alpha1.ServiceMetadata, path *field.Path) []Problem {
	if meta == nil {
		return nil
	}
	var problems []Problem
	for _, key := range slices.Sorted(maps.Keys(meta.Labels)) {
		at := path.Child("labels")
		problems = append(problems, validateKey(key, at)...)
		if errs := validation.IsValidLabelValue(meta.Labels[key]); len(errs) > 0 {
			problems = append(problems, Problem{
				Field: at.Key(key).String(), Value: strconv.Quote(meta.Labels[key]),
				Cause: errs[0], Remedy: "use an annotation for values that a label cannot have",
			})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(meta.Annotations)) {
		problems = append(problems, validateKey(key, path.Child("annotations"))...)
	}
	return problems
}

func validateKey(key string, path *field.Path) []Problem {
	remedy, taken := reserved[key]
	if !taken && strings.HasPrefix(key, reservedPrefix) {
		remedy, taken = "remove it: the operator sets what begins with "+reservedPrefix, true
	}
	if taken {
		return []Problem{{Field: path.String(), Value: strconv.Quote(key), Cause: "reserved", Remedy: remedy}}
	}
	// Keys of annotations are checked without regard to case, as the API server does.
	if errs := validation.IsQualifiedName(strings.ToLower(key)); len(errs) > 0 {
		return []Problem{{Field: path.String(), Value: strconv.Quote(key), Cause: errs[0], Remedy: "use a name such as team, or a prefixed one such as example.com/team"}}
	}
	return nil
}

func validateLoadBalancer(spec *v1alpha1.ServiceGroupSpec, root *field.Path) []Problem {
	if spec.LoadBalancerClass == nil {
		return nil
	}
	if errs := validation.IsQualifiedName(*spec.LoadBalancerClass); len(errs) > 0 {
		return []Problem{{
			Field: root.Child("loadBalancerClass").String(), Value: strconv.Quote(*spec.LoadBalancerClass),
			Cause: errs[0], Remedy: "use the name the load-balancer controller answers to, such as example.com/internal",
		}}
	}
	return nil
}
