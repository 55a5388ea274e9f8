package endpointslices_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan/endpointslices"
)

// The endpoints of any pods, ports, families and nodes, after any edits, are those that Kubernetes' own
// controller would write. No more slices are written than it writes, none is over its size, a second look
// changes nothing, the same input gives the same bytes, and what is given is left as it is.
func TestEndpointsAreThoseOfKubernetes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			w.edit(t)
			group := w.group()
			before := text(t, group)
			ours, theirs := endpointslices.Plan(group), byLibrary(group)
			if after := text(t, group); after != before {
				t.Fatalf("the plan changed what it was given:\n%s\n%s", before, after)
			}
			compareEndpoints(t, ours.Final, theirs.Final)
			if !w.vandalized && writes(ours) > writes(theirs) {
				t.Fatalf("%d writes, Kubernetes makes %d", writes(ours), writes(theirs))
			}
			shuffled := w.group()
			slices.Reverse(shuffled.Pods)
			slices.Reverse(shuffled.Existing)
			if a, b := text(t, ours), text(t, endpointslices.Plan(shuffled)); a != b {
				t.Fatalf("another order makes another plan:\n%s\n%s", a, b)
			}
			w.vandalized = false
			w.apply(t, ours)
			if again := endpointslices.Plan(w.group()); !again.Empty() {
				t.Fatalf("a second look wants to write %s", text(t, again))
			}
		}
	})
}

func writes(c endpointslices.Changes) int { return len(c.Create) + len(c.Update) + len(c.Delete) }

// world is a group with its pods, and the slices that a store would hold.
type world struct {
	service *corev1.Service
	pods    map[string]*corev1.Pod
	nodes   map[string]*corev1.Node
	slices  map[string]*discoveryv1.EndpointSlice
	// created counts slices, for names of their own.
	created int
	// vandalized reports whether somebody else edited a slice. The library leaves some of that as it is.
	vandalized bool
}

func newWorld(t *rapid.T) *world {
	w := &world{
		service: &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", UID: "service-uid", Labels: map[string]string{v1alpha1.LabelGroup: "g"}},
			Spec: corev1.ServiceSpec{
				ClusterIP: rapid.SampledFrom([]string{"10.0.0.1", corev1.ClusterIPNone}).Draw(t, "clusterIP"),
				IPFamilies: rapid.SampledFrom([][]corev1.IPFamily{
					{corev1.IPv4Protocol}, {corev1.IPv6Protocol}, {corev1.IPv4Protocol, corev1.IPv6Protocol}, {corev1.IPv6Protocol, corev1.IPv4Protocol},
				}).Draw(t, "families"),
			},
		},
		pods: map[string]*corev1.Pod{}, nodes: map[string]*corev1.Node{}, slices: map[string]*discoveryv1.EndpointSlice{},
	}
	w.respec(t)
	return w
}

func (w *world) respec(t *rapid.T) {
	w.service.Labels["stage"] = rapid.SampledFrom([]string{"a", "a", "a", "b"}).Draw(t, "stage")
	w.service.Spec.PublishNotReadyAddresses = rapid.IntRange(0, 3).Draw(t, "publish") == 0
	w.service.Spec.TrafficDistribution = rapid.SampledFrom([]*string{
		nil, nil, ptr.To("PreferClose"), ptr.To("PreferSameZone"), ptr.To("PreferSameNode"), ptr.To("Unknown"),
	}).Draw(t, "distribution")
	w.service.Spec.Ports = nil
	for i := range rapid.IntRange(0, 4).Draw(t, "ports") {
		w.service.Spec.Ports = append(w.service.Spec.Ports, corev1.ServicePort{
			Name: fmt.Sprintf("p%d", i), Port: int32(80 + i),
			Protocol:    rapid.SampledFrom([]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}).Draw(t, "protocol"),
			AppProtocol: rapid.SampledFrom([]*string{nil, ptr.To("http")}).Draw(t, "appProtocol"),
			TargetPort: rapid.SampledFrom([]intstr.IntOrString{
				intstr.FromInt32(8080), intstr.FromString("web"), intstr.FromString("admin"),
			}).Draw(t, "target"),
		})
	}
}

// edit makes, changes and removes pods, seldom so many that one slice does not hold them, and what is
// around them.
func (w *world) edit(t *rapid.T) {
	count := rapid.IntRange(0, 8).Draw(t, "pods")
	names := 2 * count
	if rapid.IntRange(0, 4).Draw(t, "many") == 0 {
		count = rapid.IntRange(60, 260).Draw(t, "manyPods")
		names = rapid.SampledFrom([]int{2 * count, count, 400}).Draw(t, "names")
	}
	kinds := rapid.SliceOfN(rapid.Custom(drawPod), 1, 4).Draw(t, "kinds")
	for i := range count {
		n := (i*7 + rapid.IntRange(0, names).Draw(t, "name")) % (names + 1)
		name := fmt.Sprintf("pod-%03d", n)
		if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
			delete(w.pods, name)
			continue
		}
		w.pods[name] = named(kinds[i%len(kinds)], name, n)
	}
	if rapid.IntRange(0, 3).Draw(t, "respec") == 0 {
		w.respec(t)
	}
	w.nodes = map[string]*corev1.Node{
		"a": {ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{corev1.LabelTopologyZone: rapid.SampledFrom([]string{"z1", "z1", "z2", ""}).Draw(t, "zone")}}},
		"b": {ObjectMeta: metav1.ObjectMeta{Name: "b"}},
	}
	if rapid.IntRange(0, 3).Draw(t, "vandal") == 0 {
		w.vandalize(t)
	}
}

// vandalize edits a slice as somebody else may.
func (w *world) vandalize(t *rapid.T) {
	if len(w.slices) == 0 {
		return
	}
	w.vandalized = true
	slice := w.slices[rapid.SampledFrom(slices.Sorted(maps.Keys(w.slices))).Draw(t, "slice")]
	switch rapid.IntRange(0, 6).Draw(t, "damage") {
	case 0:
		slice.Endpoints = nil
	case 1:
		slice.OwnerReferences = nil
	case 2:
		slice.Labels["stage"] = "other"
	case 3:
		delete(w.slices, slice.Name)
	case 4:
		slice.DeletionTimestamp = ptr.To(metav1.Unix(1, 0))
	case 5:
		slice.Ports = slice.Ports[:len(slice.Ports)/2]
	case 6:
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.9.9.9"}})
	}
}

// drawPod draws what pods of one template have in common. With another image or address an address may be
// there twice.
func drawPod(t *rapid.T) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns"},
		Spec: corev1.PodSpec{
			NodeName: rapid.SampledFrom([]string{"a", "a", "b", "gone", ""}).Draw(t, "node"),
			Hostname: rapid.SampledFrom([]string{"", "h"}).Draw(t, "hostname"), Subdomain: rapid.SampledFrom([]string{"", "s", "other"}).Draw(t, "subdomain"),
		},
		Status: corev1.PodStatus{
			Phase:  rapid.SampledFrom([]corev1.PodPhase{corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed}).Draw(t, "phase"),
			PodIPs: rapid.SampledFrom([][]corev1.PodIP{{{IP: "4"}, {IP: "6"}}, {{IP: "4"}}, {{IP: "6"}}, {{IP: "10.1.1.1"}}, {}}).Draw(t, "ips"),
		},
	}
	port := func(name string, number int) corev1.ContainerPort {
		return corev1.ContainerPort{Name: name, ContainerPort: int32(number), Protocol: rapid.SampledFrom([]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}).Draw(t, "containerProtocol")}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "containers") {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Ports: []corev1.ContainerPort{port("web", 9000+i), port("admin", 9100), port("web", 9200)}})
	}
	if rapid.Bool().Draw(t, "init") {
		pod.Spec.InitContainers = []corev1.Container{{
			RestartPolicy: rapid.SampledFrom([]*corev1.ContainerRestartPolicy{nil, ptr.To(corev1.ContainerRestartPolicyAlways)}).Draw(t, "restart"),
			Ports:         []corev1.ContainerPort{port("web", 9300), port("admin", 9400)},
		}}
	}
	if rapid.IntRange(0, 2).Draw(t, "ready") > 0 {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	if rapid.IntRange(0, 4).Draw(t, "terminating") == 0 {
		pod.DeletionTimestamp = ptr.To(metav1.Unix(1, 0))
	}
	return pod
}

// named is a pod of a kind with a name and addresses of its own.
func named(kind *corev1.Pod, name string, number int) *corev1.Pod {
	pod := kind.DeepCopy()
	pod.Name, pod.UID = name, types.UID(name)
	for i := range pod.Status.PodIPs {
		switch ip := &pod.Status.PodIPs[i].IP; *ip {
		case "4":
			*ip = fmt.Sprintf("10.2.%d.%d", number/250, 1+number%250)
		case "6":
			*ip = fmt.Sprintf("fd00:0::%x", number+1)
		}
	}
	return pod
}

func (w *world) group() *endpointslices.Group {
	g := &endpointslices.Group{Service: w.service, Nodes: w.nodes, Trigger: "2026-01-02T03:04:05Z"}
	for _, name := range slices.Sorted(maps.Keys(w.pods)) {
		g.Pods = append(g.Pods, w.pods[name])
	}
	for _, name := range slices.Sorted(maps.Keys(w.slices)) {
		g.Existing = append(g.Existing, w.slices[name])
	}
	return g
}

// apply applies the changes to the store, and checks that Final is what the store then holds.
func (w *world) apply(t *rapid.T, changes endpointslices.Changes) {
	for _, slice := range changes.Create {
		w.created++
		slice.Name = fmt.Sprintf("%s%05d", slice.GenerateName, w.created)
		w.slices[slice.Name] = slice
	}
	for _, slice := range changes.Update {
		w.slices[slice.Name] = slice
	}
	for _, slice := range changes.Delete {
		delete(w.slices, slice.Name)
	}
	maps.DeleteFunc(w.slices, func(_ string, slice *discoveryv1.EndpointSlice) bool { return slice.DeletionTimestamp != nil })
	if len(changes.Final) != len(w.slices) {
		t.Fatalf("Final has %d slices, the store %d", len(changes.Final), len(w.slices))
	}
	for _, slice := range changes.Final {
		if len(slice.Endpoints) > endpointslices.MaxEndpoints {
			t.Fatalf("%s has %d endpoints", slice.Name, len(slice.Endpoints))
		}
		if !metav1.IsControlledBy(slice, w.service) {
			t.Fatalf("%s is not the Service's", slice.Name) // the library leaves such a placeholder
		}
		if w.slices[slice.Name] != slice {
			t.Fatalf("Final has %s, and the store has not", slice.Name)
		}
	}
}

// compareEndpoints compares the endpoints of all slices, each with its ports, and the labels of the slices.
func compareEndpoints(t *rapid.T, ours, theirs []*discoveryv1.EndpointSlice) {
	got, want := lines(t, ours), lines(t, theirs)
	if !slices.Equal(got, want) {
		t.Fatalf("got\n%s\nwant\n%s", text(t, got), text(t, want))
	}
}

// lines has empty slices where a family has no endpoints: one is to be there. Beside others the library leaves
// them for some pods that are no endpoints, and they say nothing.
func lines(t *rapid.T, all []*discoveryv1.EndpointSlice) []string {
	served := map[discoveryv1.AddressType]bool{}
	for _, slice := range all {
		served[slice.AddressType] = served[slice.AddressType] || len(slice.Endpoints) > 0
	}
	var out []string
	for _, slice := range all {
		ports := slices.Clone(slice.Ports)
		slices.SortFunc(ports, func(a, b discoveryv1.EndpointPort) int { return cmp.Compare(*a.Name, *b.Name) })
		head := fmt.Sprint(slice.AddressType, text(t, slice.Labels), text(t, ports))
		if !served[slice.AddressType] {
			out = append(out, fmt.Sprint(slice.AddressType, " is empty"))
		}
		for _, e := range slice.Endpoints {
			out = append(out, head+text(t, e))
		}
	}
	slices.Sort(out)
	return out
}

func text(t *rapid.T, value any) string {
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
