package plan_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
	"github.com/servicegroup-dev/servicegroup/internal/plan/endpointslices"
)

// world is a Service with what is around it, and the slices that a store would hold.
type world struct {
	service *corev1.Service
	spec    v1alpha1.ServiceGroupSpec
	pods    map[string]*corev1.Pod
	slices  map[string]*discoveryv1.EndpointSlice
	// created and born count slices and pods, for names and addresses of their own.
	created, born int
}

// The merged slices of any groups, ports and pods, after any edits, are what a model says; no slice
// has more than 100 endpoints, no endpoint is there twice, and a second look changes nothing.
func TestSlicesAreTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			service: &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", UID: "service-uid"},
				Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", IPFamilies: drawFamilies(t)},
			},
			spec:   drawSpec(t),
			pods:   map[string]*corev1.Pod{},
			slices: map[string]*discoveryv1.EndpointSlice{},
		}
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			w.edit(t)
			w.reconcile(t)
			w.compareToModel(t)
			if again := w.compute(t); len(again.Create)+len(again.Update)+len(again.Delete) > 0 {
				t.Fatalf("a second look wants to create %d, update %d, delete %d slices", len(again.Create), len(again.Update), len(again.Delete))
			}
		}
	})
}

func drawFamilies(t *rapid.T) []corev1.IPFamily {
	return rapid.SampledFrom([][]corev1.IPFamily{
		{corev1.IPv4Protocol}, {corev1.IPv6Protocol}, {corev1.IPv4Protocol, corev1.IPv6Protocol},
	}).Draw(t, "families")
}

// drawSpec draws groups over two labels, so that pods are in no, one or several groups, and ports
// by number and by name.
func drawSpec(t *rapid.T) v1alpha1.ServiceGroupSpec {
	spec := v1alpha1.ServiceGroupSpec{}
	for i := range rapid.IntRange(1, 4).Draw(t, "groups") {
		selector := metav1.LabelSelector{MatchLabels: map[string]string{"app": rapid.SampledFrom([]string{"x", "y"}).Draw(t, "app")}}
		switch rapid.IntRange(0, 3).Draw(t, "expression") {
		case 0:
			selector = metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
				Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"x", "z", "x"}}}}
		case 1:
			selector = metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "canary", Operator: rapid.SampledFrom(
				[]metav1.LabelSelectorOperator{metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist}).Draw(t, "operator")}}}
		}
		spec.Groups = append(spec.Groups, v1alpha1.Group{Name: fmt.Sprintf("g%d", i), Selector: &selector})
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "ports") {
		port := v1alpha1.Port{Name: fmt.Sprintf("p%d", i), Port: int32(80 + i), Protocol: corev1.ProtocolTCP, TargetPort: drawTarget(t)}
		for _, group := range spec.Groups {
			if rapid.Bool().Draw(t, "backend") {
				port.Backends = append(port.Backends, v1alpha1.Backend{Group: group.Name, TargetPort: drawTarget(t)})
			}
		}
		spec.Ports = append(spec.Ports, port)
	}
	return spec
}

func drawTarget(t *rapid.T) *intstr.IntOrString {
	switch rapid.IntRange(0, 2).Draw(t, "target") {
	case 0:
		return nil
	case 1:
		return new(intstr.FromInt32(8080))
	default:
		return new(intstr.FromString("web"))
	}
}

// edit makes, changes and removes pods; seldom so many that one slice does not hold them.
func (w *world) edit(t *rapid.T) {
	count := rapid.IntRange(0, 12).Draw(t, "pods")
	if rapid.IntRange(0, 9).Draw(t, "many") == 0 {
		count = rapid.IntRange(95, 230).Draw(t, "manyPods")
	}
	for range count {
		name := fmt.Sprintf("pod-%d", rapid.IntRange(0, 2*count).Draw(t, "name"))
		if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
			delete(w.pods, name)
			continue
		}
		w.born++
		w.pods[name] = drawPod(t, name, w.born)
	}
	if rapid.IntRange(0, 3).Draw(t, "respec") == 0 {
		w.spec = drawSpec(t)
	}
	if names := slices.Sorted(maps.Keys(w.slices)); len(names) > 0 && rapid.IntRange(0, 3).Draw(t, "vandal") == 0 {
		slice := w.slices[rapid.SampledFrom(names).Draw(t, "slice")]
		switch rapid.IntRange(0, 3).Draw(t, "damage") {
		case 0:
			slice.Endpoints = nil
		case 1:
			slice.OwnerReferences = nil
		case 2:
			slice.Labels[discoveryv1.LabelServiceName] = "other"
		case 3:
			delete(w.slices, slice.Name)
		}
	}
}

func drawPod(t *rapid.T, name string, number int) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name), Labels: map[string]string{
			"app": rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "podApp"),
		}},
		Spec: corev1.PodSpec{NodeName: rapid.SampledFrom([]string{"node", "node", "node", "gone"}).Draw(t, "node")},
		Status: corev1.PodStatus{
			Phase:  rapid.SampledFrom([]corev1.PodPhase{corev1.PodRunning, corev1.PodRunning, corev1.PodSucceeded}).Draw(t, "phase"),
			PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.1.%d.%d", number/250, 1+number%250)}, {IP: fmt.Sprintf("fd00::%x", number+1)}},
		},
	}
	if rapid.Bool().Draw(t, "canary") {
		pod.Labels["canary"] = "yes"
	}
	if number := rapid.IntRange(0, 2).Draw(t, "web"); number > 0 {
		pod.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(9000 + number), Protocol: corev1.ProtocolTCP}}}}
	}
	if rapid.Bool().Draw(t, "ready") {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	if rapid.IntRange(0, 4).Draw(t, "terminating") == 0 {
		pod.DeletionTimestamp = new(metav1.Unix(1, 0))
	}
	return pod
}

func (w *world) behind(t *rapid.T) (*plan.Behind, *plan.Target) {
	nodes := plan.Nodes{"node": &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}}
	entry, err := plan.Resolve(&w.spec)
	if err != nil {
		t.Fatal(err)
	}
	target := &plan.Target{Service: w.service, Trigger: "2026-01-02T03:04:05Z"}
	for _, slice := range w.slices {
		target.Slices = append(target.Slices, slice.DeepCopy())
	}
	members := plan.Members(w.service, entry, plan.Observed{Pods: slices.Collect(maps.Values(w.pods)), Nodes: nodes})
	return &plan.Behind{Entry: entry, Members: members, Nodes: nodes}, target
}

func (w *world) compute(t *rapid.T) plan.Slices {
	behind, target := w.behind(t)
	changes, _ := behind.SlicesOf(target)
	return changes
}

// reconcile applies the changes to the store, and checks that Final is what the store then holds.
func (w *world) reconcile(t *rapid.T) { w.apply(t, w.compute(t)) }

func (w *world) apply(t *rapid.T, changes plan.Slices) {
	final := 0
	for _, slice := range changes.Create {
		w.created++
		slice.Name = fmt.Sprintf("%s%05d", slice.GenerateName, w.created)
		w.slices[slice.Name] = slice.DeepCopy()
	}
	for _, slice := range changes.Update {
		w.slices[slice.Name] = slice.DeepCopy()
	}
	for _, slice := range changes.Delete {
		delete(w.slices, slice.Name)
	}
	for _, slice := range changes.Final {
		if !apiequality.Semantic.DeepEqual(w.slices[slice.Name], slice) {
			t.Fatalf("Final has %s, the store %s", slice.Name, w.slices[slice.Name])
		}
		final++
	}
	if final != len(w.slices) {
		t.Fatalf("Final has %d slices, the store %d", final, len(w.slices))
	}
}

func (w *world) compareToModel(t *rapid.T) {
	got := map[string]bool{}
	for _, slice := range w.slices {
		if len(slice.Endpoints) > endpointslices.MaxEndpoints {
			t.Fatalf("%s has %d endpoints", slice.Name, len(slice.Endpoints))
		}
		for _, e := range slice.Endpoints {
			for _, p := range slice.Ports {
				line := endpointLine(slice.Labels[v1alpha1.LabelGroup], *p.Name, e.Addresses[0], *p.Port, *e.Conditions.Ready)
				if got[line] {
					t.Fatalf("%s is there twice", line)
				}
				got[line] = true
			}
		}
	}
	if want := w.model(t); !maps.Equal(got, want) {
		t.Fatalf("got  %v\nwant %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// model says in the plainest way which endpoints there are.
func (w *world) model(t *rapid.T) map[string]bool {
	want := map[string]bool{}
	for i := range w.spec.Groups {
		group := &w.spec.Groups[i]
		selector, err := metav1.LabelSelectorAsSelector(group.Selector)
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range w.pods {
			if !selector.Matches(labels.Set(pod.Labels)) || pod.Status.Phase == corev1.PodSucceeded || pod.Spec.NodeName == "gone" {
				continue
			}
			for _, port := range w.spec.Ports {
				number := modelPort(&port, group.Name, pod)
				for _, ip := range pod.Status.PodIPs {
					if number != 0 && slices.Contains(w.service.Spec.IPFamilies, familyOf(ip.IP)) {
						ready := len(pod.Status.Conditions) > 0 && pod.DeletionTimestamp == nil
						want[endpointLine(group.Name, port.Name, ip.IP, number, ready)] = true
					}
				}
			}
		}
	}
	return want
}

// modelPort is the number of a port on a pod of a group; 0 if it has none.
func modelPort(port *v1alpha1.Port, group string, pod *corev1.Pod) int32 {
	target := port.TargetPort
	if len(port.Backends) > 0 {
		at := slices.IndexFunc(port.Backends, func(b v1alpha1.Backend) bool { return b.Group == group })
		if at < 0 {
			return 0
		}
		if port.Backends[at].TargetPort != nil {
			target = port.Backends[at].TargetPort
		}
	}
	switch {
	case target == nil:
		return port.Port
	case target.Type == intstr.Int:
		return target.IntVal
	case len(pod.Spec.Containers) > 0:
		return pod.Spec.Containers[0].Ports[0].ContainerPort
	}
	return 0
}

func familyOf(ip string) corev1.IPFamily {
	if ip[:2] == "fd" {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

func endpointLine(group, port, ip string, number int32, ready bool) string {
	return fmt.Sprintf("%s/%s %s|%d ready=%t", group, port, ip, number, ready)
}

// One pod's flip among many is one update of one slice.
func TestOneFlipIsOneUpdate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := v1alpha1.ServiceGroupSpec{
			Groups: []v1alpha1.Group{{Name: "g", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}}},
			Ports:  []v1alpha1.Port{{Port: 80}},
		}
		w := &world{
			service: &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", UID: "service-uid"},
				Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
			},
			spec: spec, pods: map[string]*corev1.Pod{}, slices: map[string]*discoveryv1.EndpointSlice{},
		}
		count := rapid.IntRange(1, 350).Draw(t, "pods")
		for i := range count {
			name := fmt.Sprintf("pod-%d", i)
			w.pods[name] = &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name), Labels: map[string]string{"app": "x"}},
				Spec:       corev1.PodSpec{NodeName: "node"},
				Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.1.%d.%d", i/250, 1+i%250)}}},
			}
		}
		w.reconcile(t)
		flipped := w.pods[fmt.Sprintf("pod-%d", rapid.IntRange(0, count-1).Draw(t, "flipped"))]
		flipped.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		changes := w.compute(t)
		if len(changes.Create) != 0 || len(changes.Update) != 1 || len(changes.Delete) != 0 {
			t.Fatalf("create %d, update %d, delete %d", len(changes.Create), len(changes.Update), len(changes.Delete))
		}
	})
}
