package convert

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// metadata converts what is not the spec. A Service that has a UID exists, and is to be adopted.
func (c *conversion) metadata() {
	svc := c.svc
	if svc.UID != "" {
		c.out.Annotations = map[string]string{v1alpha1.AnnotationAdopt: string(svc.UID)}
	}
	meta := &v1alpha1.ServiceMetadata{Labels: maps.Clone(svc.Labels), Annotations: maps.Clone(svc.Annotations)}
	delete(meta.Annotations, corev1.LastAppliedConfigAnnotation)
	if name, ok := meta.Labels[v1alpha1.LabelServiceProxyName]; ok {
		c.warn("metadata.labels[%s]: the proxy %s serves this Service so far; the node agent will", v1alpha1.LabelServiceProxyName, name)
		delete(meta.Labels, v1alpha1.LabelServiceProxyName)
	}
	c.leaveOut("labels", meta.Labels)
	c.leaveOut("annotations", meta.Annotations)
	if len(meta.Labels) > 0 || len(meta.Annotations) > 0 {
		c.out.Spec.ServiceMetadata = meta
	}
	if owner := metav1.GetControllerOf(svc); owner != nil {
		c.warn("metadata.ownerReferences: %s %s owns this Service and would go on writing it; the operator does not adopt it before it is removed from there", owner.Kind, owner.Name)
	}
	if release := svc.Annotations["meta.helm.sh/release-name"]; release != "" {
		c.warn("metadata.annotations[meta.helm.sh/release-name]: Helm release %s has this Service in its chart; set the annotation helm.sh/resource-policy: keep and take it out of the chart, or the next upgrade writes it again", release)
	} else if _, ok := svc.Annotations[corev1.LastAppliedConfigAnnotation]; ok {
		c.warn("metadata.annotations[%s]: a manifest of this Service was applied with kubectl; remove it from where it is kept, since applying it again writes the selector, which the operator takes out again", corev1.LastAppliedConfigAnnotation)
	}
}

// notForUsers are keys by which Kubernetes tells whose a Service or its slices are, fieldOf those whose
// meaning has a field of its own. A ServiceGroup takes neither (internal/plan).
var (
	notForUsers = []string{corev1.IsHeadlessService, discoveryv1.LabelServiceName, discoveryv1.LabelManagedBy}
	fieldOf     = map[string]string{
		corev1.AnnotationTopologyMode:                 "trafficDistribution",
		corev1.DeprecatedAnnotationTopologyAwareHints: "trafficDistribution",
		corev1.AnnotationLoadBalancerSourceRangesKey:  "loadBalancerSourceRanges",
	}
)

// leaveOut takes out the keys that the operator does not let anybody set, and those that controllers
// write: with them in the ServiceGroup, operator and controller would write against each other. They
// stay on the Service.
func (c *conversion) leaveOut(field string, keys map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		domain, _, _ := strings.Cut(key, "/")
		if domain == v1alpha1.GroupVersion.Group || slices.Contains(notForUsers, key) {
			c.warn("metadata.%s[%s]: is set by Kubernetes or the operator and was left out", field, key)
			delete(keys, key)
		} else if field, ok := fieldOf[key]; ok {
			c.warn("metadata.annotations[%s]: %s: was left out; use spec.%s in its place", key, keys[key], field)
			delete(keys, key)
		} else if writer := c.writer(field, key); writer != "" {
			c.warn("metadata.%s[%s]: was written by %s and stays on the Service as it is; if it is yours, add it to spec.serviceMetadata.%s", field, key, writer, field)
			delete(keys, key)
		}
	}
}

// byHand begin the names of the field managers with which people and what applies their manifests
// write. Whatever uses server-side apply does so too.
var byHand = []string{"kubectl", "helm", "argocd", "terraform", "pulumi", "kapp"}

// writer is who wrote a label or annotation if that is no human's tool; empty if it is, or if nothing
// is known.
func (c *conversion) writer(field, key string) string {
	writer := ""
	for _, entry := range c.svc.ManagedFields {
		if entry.Subresource != "" || entry.FieldsV1 == nil {
			continue
		}
		var owned struct {
			Metadata map[string]json.RawMessage `json:"f:metadata"`
		}
		var keys map[string]json.RawMessage
		if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &owned) != nil || json.Unmarshal(owned.Metadata["f:"+field], &keys) != nil {
			continue
		}
		if _, ok := keys["f:"+key]; !ok {
			continue
		}
		if entry.Operation == metav1.ManagedFieldsOperationApply ||
			slices.ContainsFunc(byHand, func(name string) bool { return strings.HasPrefix(strings.ToLower(entry.Manager), name) }) {
			return ""
		}
		writer = entry.Manager
	}
	return writer
}
