package plan_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// before is a Service as v0.1 applied it: the same fields as now, but for the annotation with what was served.
func before(t testing.TB, sg *v1alpha1.ServiceGroup, served string) *corev1.Service {
	t.Helper()
	want := plan.Service(plan.Desired{Group: sg})
	delete(want.Annotations, v1alpha1.AnnotationRevision)
	want.WithAnnotations(map[string]string{v1alpha1.AnnotationServed: served})
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	svc := &corev1.Service{}
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, svc); err != nil {
		t.Fatal(err)
	}
	delete(fields, "apiVersion")
	delete(fields, "kind")
	delete(fields["metadata"].(map[string]any), "name")
	delete(fields["metadata"].(map[string]any), "namespace")
	owned, err := json.Marshal(managedFields(fields))
	if err != nil {
		t.Fatal(err)
	}
	svc.ManagedFields = []metav1.ManagedFieldsEntry{{
		Manager: v1alpha1.ManagedBy, Operation: metav1.ManagedFieldsOperationApply, APIVersion: "v1",
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(string(owned)),
	}}
	return svc
}

// managedFields is the FieldsV1 of what was applied.
func managedFields(value any) map[string]any {
	out := map[string]any{}
	object, _ := value.(map[string]any)
	for name, child := range object {
		list, _ := child.([]any)
		switch name {
		case "ports":
			items := map[string]any{}
			for _, item := range list {
				port := item.(map[string]any)
				fields := managedFields(port)
				fields["."] = map[string]any{}
				items[fmt.Sprintf(`k:{"port":%v,"protocol":%q}`, port["port"], port["protocol"])] = fields
			}
			out["f:ports"] = items
		case "ownerReferences":
			out["f:ownerReferences"] = map[string]any{fmt.Sprintf(`k:{"uid":%q}`, list[0].(map[string]any)["uid"]): map[string]any{}}
		default:
			out["f:"+name] = managedFields(child)
		}
	}
	return out
}

const servedWeb = `{"groups":[{"name":"web","selector":{"matchLabels":{"app":"web"}}}],"ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":8080}]}`

func webGroup(change func(*v1alpha1.ServiceGroupSpec)) *v1alpha1.ServiceGroup {
	target := intstr.FromInt32(8080)
	sg := &v1alpha1.ServiceGroup{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u"},
		Spec: v1alpha1.ServiceGroupSpec{
			Groups: []v1alpha1.Group{{Name: "web", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}},
			Ports:  []v1alpha1.Port{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: &target}},
		},
	}
	change(&sg.Spec)
	return sg
}

// completed fills in what the API server chooses.
func completed(svc *corev1.Service) *corev1.Service {
	spec := &svc.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return svc
	}
	if spec.ClusterIP == "" {
		spec.ClusterIP, spec.ClusterIPs = "10.0.0.7", []string{"10.0.0.7", "fd00::7"}
	}
	spec.IPFamilies, spec.IPFamilyPolicy = []corev1.IPFamily{"IPv4", "IPv6"}[:len(spec.ClusterIPs)], ptr.To(corev1.IPFamilyPolicyPreferDualStack)
	spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyCluster)
	if spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer && ptr.Deref(spec.AllocateLoadBalancerNodePorts, true) {
		spec.Ports[0].NodePort = 30080
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		spec.HealthCheckNodePort = 31000
		spec.AllocateLoadBalancerNodePorts = ptr.To(ptr.Deref(spec.AllocateLoadBalancerNodePorts, true))
	}
	return svc
}

// TestWhatWasServedIsTakenOver: of the Service of any kind, what is applied from then on changes nothing.
func TestWhatWasServedIsTakenOver(t *testing.T) {
	loadBalancer := func(s *v1alpha1.ServiceGroupSpec) {
		s.Type, s.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
		s.LoadBalancerClass, s.LoadBalancerSourceRanges = ptr.To("example.com/lb"), []string{"192.0.2.0/24"}
		s.AllocateLoadBalancerNodePorts = ptr.To(false)
	}
	for name, change := range map[string]func(*v1alpha1.ServiceGroupSpec){
		"ClusterIP":         func(*v1alpha1.ServiceGroupSpec) {},
		"NodePort":          func(s *v1alpha1.ServiceGroupSpec) { s.Type = corev1.ServiceTypeNodePort },
		"LoadBalancer":      loadBalancer,
		"headless":          func(s *v1alpha1.ServiceGroupSpec) { s.ClusterIP = corev1.ClusterIPNone },
		"dataplane Cluster": func(s *v1alpha1.ServiceGroupSpec) { s.Dataplane = v1alpha1.DataplaneCluster },
		"ExternalName": func(s *v1alpha1.ServiceGroupSpec) {
			*s = v1alpha1.ServiceGroupSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org"}
		},
		"affinity and metadata": func(s *v1alpha1.ServiceGroupSpec) {
			s.SessionAffinity = corev1.ServiceAffinityClientIP
			s.SessionAffinityConfig = &v1alpha1.SessionAffinityConfig{ClientIP: &v1alpha1.ClientIPConfig{TimeoutSeconds: ptr.To[int32](60)}}
			s.ServiceMetadata = &v1alpha1.ServiceMetadata{Labels: map[string]string{"team": "a"}, Annotations: map[string]string{"example.com/x": "y"}}
			s.TrafficDistribution, s.PublishNotReadyAddresses = ptr.To("PreferClose"), true
		},
	} {
		sg := webGroup(change)
		served := servedWeb
		if sg.Spec.Type == corev1.ServiceTypeExternalName {
			served = `{"groups":[],"ports":[]}`
		}
		svc := completed(before(t, sg, served))
		accepted := plan.AcceptedBefore(svc, sg)
		if accepted == nil {
			t.Errorf("%s: nothing is taken over", name)
			continue
		}
		if accepted.Name != "web-1" || accepted.Stored || accepted.Hash != plan.HashSpec(accepted.Spec) {
			t.Errorf("%s: %+v", name, accepted.Revision)
		}
		taken := sg.DeepCopy()
		taken.Spec = *accepted.Spec
		applied := plan.Service(plan.Desired{Group: taken, Revision: accepted.Name, Had: accepted.Allocated})
		delete(applied.Annotations, v1alpha1.AnnotationRevision)
		live := svc.DeepCopy()
		delete(live.Annotations, v1alpha1.AnnotationServed)
		live.ManagedFields = nil
		requireWithin(t, name, asMap(t, applied), asMap(t, live))
		if had := len(accepted.Allocated.ClusterIPs) > 0; had != (accepted.Spec.ClusterIP != "None" && accepted.Spec.Type != corev1.ServiceTypeExternalName) {
			t.Errorf("%s: allocated %+v", name, accepted.Allocated)
		}
		if got, want := plan.HandedToAgents(svc), accepted.Spec.Dataplane != v1alpha1.DataplaneCluster && len(accepted.Allocated.ClusterIPs) > 0; got != want {
			t.Errorf("%s: the data plane is %q", name, accepted.Spec.Dataplane)
		}
	}
}

func asMap(t *testing.T, value any) map[string]any {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	delete(out, "apiVersion")
	delete(out, "kind")
	return out
}

// requireWithin checks that what is applied is there already.
func requireWithin(t *testing.T, path string, applied, live map[string]any) {
	t.Helper()
	for key, want := range applied {
		object, isObject := want.(map[string]any)
		there, _ := live[key].(map[string]any)
		switch {
		case isObject:
			requireWithin(t, path+"."+key, object, there)
		case !reflect.DeepEqual(want, live[key]):
			t.Errorf("%s.%s was %v, and %v would be applied", path, key, live[key], want)
		}
	}
}

// TestWhatIsNotTakenOver: an annotation that the operator did not write, or that the schema would not take.
func TestWhatIsNotTakenOver(t *testing.T) {
	sg := webGroup(func(*v1alpha1.ServiceGroupSpec) {})
	group := func(n int) string {
		return fmt.Sprintf(`{"name":"g%d","selector":{"matchLabels":{"app":"web"}}}`, n)
	}
	var many, ports []string
	for i := range 201 {
		many, ports = append(many, group(i)), append(ports, fmt.Sprintf(`{"name":"p%d","port":%d}`, i, i+1))
	}
	groups := func(list string) string { return `{"groups":[` + list + `],"ports":[{"port":80}]}` }
	external := func(rest string) string {
		return groups(`{"name":"g","external":{"addresses":["192.0.2.1"]` + rest + `}}`)
	}
	for name, text := range map[string]string{
		"empty": "", "no JSON": "{", "another type": `{"groups":"web"}`, "unknown field": `{"groups":[],"ports":[],"more":1}`, "two values": servedWeb + servedWeb,
		"too long":                `{"groups":[],"ports":[]}` + strings.Repeat(" ", 200<<10),
		"an empty selector":       groups(`{"name":"g","selector":{}}`),
		"a selector that is none": groups(`{"name":"g","selector":{"matchExpressions":[{"key":"app","operator":"In"}]}}`),
		"no selector":             groups(`{"name":"g"}`),
		"no name of a group":      groups(`{"name":"G/../x","selector":{"matchLabels":{"app":"web"}}}`),
		"a group twice":           groups(group(1) + "," + group(1)),
		"too many groups":         groups(strings.Join(many, ",")),
		"too many ports":          `{"groups":[` + group(1) + `],"ports":[` + strings.Join(ports, ",") + `]}`,
		"no port":                 `{"groups":[` + group(1) + `],"ports":[{"port":-1}]}`,
		"no protocol":             `{"groups":[` + group(1) + `],"ports":[{"port":80,"protocol":"ICMP"}]}`,
		"a port twice":            `{"groups":[` + group(1) + `],"ports":[{"port":80},{"port":80,"protocol":"TCP"}]}`,
		"a check without pause":   external(`,"healthCheck":{"tcp":{},"periodSeconds":-1}`),
		"addresses and a name":    external(`,"hostname":"example.org"`),
	} {
		svc := completed(before(t, sg, text))
		if accepted := plan.AcceptedBefore(svc, sg); accepted != nil {
			t.Errorf("%s: taken over as %+v", name, accepted.Spec)
		}
	}

	edited := completed(before(t, sg, servedWeb))
	edited.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(strings.Replace(edited.ManagedFields[0].FieldsV1.GetRawString(), `"f:`+v1alpha1.AnnotationServed+`":{}`, "", 1))
	foreign, bare := completed(before(t, sg, servedWeb)), completed(before(t, sg, servedWeb))
	foreign.OwnerReferences[0].UID, bare.ManagedFields = "another", nil
	for name, svc := range map[string]*corev1.Service{"edited by others": edited, "somebody else's": foreign, "never applied": bare, "gone": nil} {
		if accepted := plan.AcceptedBefore(svc, sg); accepted != nil {
			t.Errorf("%s: taken over as %+v", name, accepted.Spec)
		}
	}
	if plan.AcceptedBefore(completed(before(t, sg, servedWeb)), sg) == nil {
		t.Error("what was written by the operator is not taken over")
	}
}

// TestEditsOfPortsAreNotTakenOver: ports are those of the annotation, with the nodePorts of the Service.
func TestEditsOfPortsAreNotTakenOver(t *testing.T) {
	sg := webGroup(func(s *v1alpha1.ServiceGroupSpec) { s.Type = corev1.ServiceTypeNodePort })
	svc := completed(before(t, sg, servedWeb))
	svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "mine", Port: 22, Protocol: corev1.ProtocolTCP, NodePort: 30022})
	svc.Spec.Ports[0].TargetPort = intstr.FromInt32(22)
	svc.Spec.Selector, svc.Spec.ExternalIPs = map[string]string{"app": "mine"}, []string{"192.0.2.1"}
	accepted := plan.AcceptedBefore(svc, sg)
	if accepted == nil || len(accepted.Spec.Ports) != 1 || accepted.Spec.Ports[0].NodePort != 30080 || accepted.Spec.Ports[0].TargetPort.IntVal != 8080 {
		t.Fatalf("%+v", accepted)
	}
}
