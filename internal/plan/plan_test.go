package plan_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

func goodSpec() *v1alpha1.ServiceGroupSpec {
	return &v1alpha1.ServiceGroupSpec{
		Groups: []v1alpha1.Group{{Name: "a", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}},
		Ports:  []v1alpha1.Port{{Name: "http", Port: 80, Backends: []v1alpha1.Backend{{Group: "a"}}}},
	}
}

func TestValidate(t *testing.T) {
	expression := func(op metav1.LabelSelectorOperator, values ...string) func(*v1alpha1.ServiceGroupSpec) {
		return func(s *v1alpha1.ServiceGroupSpec) {
			s.Groups[0].Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: op, Values: values}}}
		}
	}
	target := func(v intstr.IntOrString) func(*v1alpha1.ServiceGroupSpec) {
		return func(s *v1alpha1.ServiceGroupSpec) { s.Ports[0].TargetPort = &v }
	}
	labelled := func(labels map[string]string) func(*v1alpha1.ServiceGroupSpec) {
		return func(s *v1alpha1.ServiceGroupSpec) { s.ServiceMetadata = &v1alpha1.ServiceMetadata{Labels: labels} }
	}
	annotated := func(annotations map[string]string) func(*v1alpha1.ServiceGroupSpec) {
		return func(s *v1alpha1.ServiceGroupSpec) {
			s.ServiceMetadata = &v1alpha1.ServiceMetadata{Annotations: annotations}
		}
	}
	for name, test := range map[string]struct {
		edit func(*v1alpha1.ServiceGroupSpec)
		// want are the beginnings of the problems.
		want []string
	}{
		"good":               {func(*v1alpha1.ServiceGroupSpec) {}, nil},
		"In":                 {expression(metav1.LabelSelectorOpIn, "x"), nil},
		"In without values":  {expression(metav1.LabelSelectorOpIn), []string{`spec.groups[0].selector: {"matchExpressions":[{"key":"app","operator":"In"}]}: `}},
		"Exists with values": {expression(metav1.LabelSelectorOpExists, "x"), []string{"spec.groups[0].selector: "}},
		"unknown operator":   {expression("Near", "x"), []string{"spec.groups[0].selector: "}},
		"selector value": {func(s *v1alpha1.ServiceGroupSpec) { s.Groups[0].Selector.MatchLabels["app"] = "a b" },
			[]string{`spec.groups[0].selector: {"matchLabels":{"app":"a b"}}: `}},
		"target number":         {target(intstr.FromInt32(65535)), nil},
		"target name":           {target(intstr.FromString("web")), nil},
		"target zero":           {target(intstr.FromInt32(0)), []string{"spec.ports[0].targetPort: 0: must be between 1 and 65535, inclusive; give a number from 1 to 65535"}},
		"target too high":       {target(intstr.FromInt32(65536)), []string{"spec.ports[0].targetPort: 65536: "}},
		"target all digits":     {target(intstr.FromString("80")), []string{`spec.ports[0].targetPort: "80": must contain at least one letter`}},
		"target double hyphens": {target(intstr.FromString("a--b")), []string{`spec.ports[0].targetPort: "a--b": `}},
		"backend target": {func(s *v1alpha1.ServiceGroupSpec) { s.Ports[0].Backends[0].TargetPort = new(intstr.FromInt32(-1)) },
			[]string{"spec.ports[0].backends[0].targetPort: -1: "}},
		"appProtocol": {func(s *v1alpha1.ServiceGroupSpec) { s.Ports[0].AppProtocol = ptr.To("no spaces") },
			[]string{`spec.ports[0].appProtocol: "no spaces": `}},
		"two IPs of a family": {func(s *v1alpha1.ServiceGroupSpec) { s.ClusterIPs = []string{"10.0.0.1", "10.0.0.2"} },
			[]string{`spec.clusterIPs: ["10.0.0.1" "10.0.0.2"]: both addresses are of one family`}},
		"one family twice": {func(s *v1alpha1.ServiceGroupSpec) { s.IPFamilies = []corev1.IPFamily{"IPv4", "IPv4"} },
			[]string{`spec.ipFamilies: ["IPv4" "IPv4"]: both entries are the same family`}},
		"class": {func(s *v1alpha1.ServiceGroupSpec) { s.LoadBalancerClass = ptr.To("a/b/c") },
			[]string{`spec.loadBalancerClass: "a/b/c": `}},
		"labels": {labelled(map[string]string{"team": "blue", "example.com/team": ""}), nil},
		"label value": {labelled(map[string]string{"team": "blue and red"}),
			[]string{`spec.serviceMetadata.labels[team]: "blue and red": `}},
		"label key": {labelled(map[string]string{"a b": ""}), []string{`spec.serviceMetadata.labels: "a b": `}},
		"our labels": {labelled(map[string]string{v1alpha1.LabelServiceGroup: "x", v1alpha1.LabelServiceProxyName: ""}),
			[]string{`spec.serviceMetadata.labels: "net.servicegroup.dev/servicegroup": reserved; remove it`,
				`spec.serviceMetadata.labels: "service.kubernetes.io/service-proxy-name": reserved; remove it`}},
		"annotations": {annotated(map[string]string{"Example.com/Note": "any text\n"}), nil},
		"our annotation": {annotated(map[string]string{v1alpha1.AnnotationRevision: "x"}),
			[]string{`spec.serviceMetadata.annotations: "net.servicegroup.dev/revision": reserved`}},
		"hints": {annotated(map[string]string{corev1.AnnotationTopologyMode: "Auto"}),
			[]string{`spec.serviceMetadata.annotations: "service.kubernetes.io/topology-mode": reserved; remove it and set trafficDistribution`}},
		"two at once": {func(s *v1alpha1.ServiceGroupSpec) {
			expression(metav1.LabelSelectorOpIn)(s)
			target(intstr.FromInt32(0))(s)
		}, []string{"spec.groups[0].selector", "spec.ports[0].targetPort"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := goodSpec()
			test.edit(spec)
			got := plan.Validate(spec)
			if len(got) != len(test.want) {
				t.Fatalf("got %v, want %d problems", got, len(test.want))
			}
			for i, want := range test.want {
				if !strings.HasPrefix(got[i].String(), want) {
					t.Errorf("got %s, want %s...", got[i], want)
				}
				if got[i].Remedy == "" {
					t.Errorf("%s: no remedy", got[i].Field)
				}
			}
		})
	}
}

func TestOwnershipOf(t *testing.T) {
	sg := &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Name: "s", UID: "mine"}}
	owner := func(kind, version, name string, uid types.UID) []metav1.OwnerReference {
		return []metav1.OwnerReference{{Kind: kind, APIVersion: version, Name: name, UID: uid, Controller: ptr.To(true)}}
	}
	ours := v1alpha1.GroupVersion.String()
	applied := []metav1.ManagedFieldsEntry{{Manager: v1alpha1.ManagedBy, Operation: metav1.ManagedFieldsOperationApply}}
	updated := []metav1.ManagedFieldsEntry{{Manager: v1alpha1.ManagedBy, Operation: metav1.ManagedFieldsOperationUpdate}}
	for name, test := range map[string]struct {
		meta metav1.ObjectMeta
		want plan.Ownership
	}{
		"plain":                 {metav1.ObjectMeta{}, plan.Foreign},
		"our label":             {metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelServiceProxyName: v1alpha1.ServiceProxyName}}, plan.Foreign},
		"our manager, no apply": {metav1.ObjectMeta{ManagedFields: updated}, plan.Foreign},
		"owned":                 {metav1.ObjectMeta{OwnerReferences: owner("ServiceGroup", ours, "s", "mine")}, plan.Ours},
		"orphan of ours":        {metav1.ObjectMeta{ManagedFields: applied}, plan.Ours},
		"predecessor's":         {metav1.ObjectMeta{OwnerReferences: owner("ServiceGroup", ours, "s", "old")}, plan.Predecessors},
		"another's":             {metav1.ObjectMeta{OwnerReferences: owner("ServiceGroup", ours, "t", "t")}, plan.Foreign},
		"another kind's":        {metav1.ObjectMeta{OwnerReferences: owner("Gateway", "g/v1", "s", "g"), ManagedFields: applied}, plan.Foreign},
	} {
		if got := plan.OwnershipOf(&corev1.Service{ObjectMeta: test.meta}, sg); got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

func TestMembers(t *testing.T) {
	served, err := plan.Resolve(goodSpec())
	if err != nil {
		t.Fatal(err)
	}
	nodes := plan.Nodes{"n": &corev1.Node{}, "gone": nil}
	pod := func(name string, edit func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "a"}},
			Spec:       corev1.PodSpec{NodeName: "n"},
			Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}},
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		}
		edit(p)
		return p
	}
	address := func(ip string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: ip}} }
	}
	pods := []*corev1.Pod{
		pod("ready", func(*corev1.Pod) {}),
		pod("and-unready", func(p *corev1.Pod) { p.Status.Conditions = nil }),
		pod("terminating", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }),
		pod("pending", func(p *corev1.Pod) { p.Status.PodIPs = nil }),
		pod("finished", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		pod("failed", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
		pod("stranger", func(p *corev1.Pod) { p.Labels = nil }),
		pod("lost", func(p *corev1.Pod) { p.Spec.NodeName = "gone" }),
		pod("loopback", address("127.0.0.1")), pod("mapped", address("::ffff:127.0.0.1")), pod("link", address("fe80::1")),
		pod("multicast", address("224.0.0.1")), pod("zero", address("0.0.0.0")), pod("nonsense", address("x")),
	}
	members := plan.Members(&corev1.Service{}, served, plan.Observed{Pods: pods, Nodes: nodes})
	var names []string
	for _, p := range members[0].Pods {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != "and-unready ready terminating" {
		t.Errorf("endpoints %s", got)
	}
	if m := members[0]; m.Matched != 10 || m.Ready != 1 || m.LeftOut != 6 {
		t.Errorf("matched %d, ready %d, left out %d", m.Matched, m.Ready, m.LeftOut)
	}
	if pods[0].Name != "ready" {
		t.Error("the caller's pods were put in another order")
	}
}

func TestDiffStatus(t *testing.T) {
	status := func(edit func(*v1alpha1.ServiceGroupStatus)) *v1alpha1.ServiceGroupStatus {
		s := &v1alpha1.ServiceGroupStatus{
			ClusterIP:  "10.0.0.1",
			Conditions: []metav1.Condition{{Type: "Ready", Status: "True", LastTransitionTime: metav1.Unix(1, 0)}},
			Groups:     []v1alpha1.GroupStatus{{Name: "a", Matched: 5, Ready: 4}},
		}
		edit(s)
		return s
	}
	for name, test := range map[string]struct {
		edit func(*v1alpha1.ServiceGroupStatus)
		want plan.StatusChange
	}{
		"nothing":       {func(*v1alpha1.ServiceGroupStatus) {}, plan.Unchanged},
		"time":          {func(s *v1alpha1.ServiceGroupStatus) { s.Conditions[0].LastTransitionTime = metav1.Time{} }, plan.Unchanged},
		"one less":      {func(s *v1alpha1.ServiceGroupStatus) { s.Groups[0].Ready = 3 }, plan.CountsChanged},
		"none left":     {func(s *v1alpha1.ServiceGroupStatus) { s.Groups[0].Ready = 0 }, plan.Changed},
		"another group": {func(s *v1alpha1.ServiceGroupStatus) { s.Groups[0].Name = "b" }, plan.Changed},
		"address":       {func(s *v1alpha1.ServiceGroupStatus) { s.ClusterIP = "10.0.0.2" }, plan.Changed},
		"message":       {func(s *v1alpha1.ServiceGroupStatus) { s.Conditions[0].Message = "m" }, plan.Changed},
	} {
		now := status(test.edit)
		report := &plan.Report{Status: *now, Coarse: *now.DeepCopy()}
		for i := range report.Coarse.Groups {
			report.Coarse.Groups[i].Matched, report.Coarse.Groups[i].Ready = min(now.Groups[i].Matched, 1), min(now.Groups[i].Ready, 1)
		}
		if got := plan.DiffStatus(status(func(*v1alpha1.ServiceGroupStatus) {}), nil, report); got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, test := range []struct {
		text string
		most int
		want string
	}{
		{"short", 5, "short"},
		{"too long", 7, "too ..."},
		{"größer", 6, "gr..."}, // not half of a letter
		{"größer", 7, "grö..."},
	} {
		if got := plan.Shorten(test.text, test.most); got != test.want {
			t.Errorf("%q in %d bytes: %q, want %q", test.text, test.most, got, test.want)
		}
	}
}
