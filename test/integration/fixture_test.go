package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

var (
	ctx       = context.Background()
	namespace string
	lastPodIP atomic.Uint32
)

const nodeName = "node-1"

var _ = BeforeEach(func() {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	Expect(k8s.Create(ctx, ns)).To(Succeed())
	namespace = ns.Name
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName, Labels: map[string]string{corev1.LabelTopologyZone: "zone-a"}}}
	Expect(client.IgnoreAlreadyExists(k8s.Create(ctx, node))).To(Succeed())
})

// What is left over must not keep the operator busy. Services stay: there is no garbage collector.
var _ = AfterEach(func() {
	Expect(k8s.DeleteAllOf(ctx, &v1alpha1.ServiceGroup{}, client.InNamespace(namespace))).To(Succeed())
})

// Numbers for explicit nodePorts of tests: in the part of the range that the API server leaves to
// explicit ones (30000-30085), after those of the guestbook and before those of nodeports_test.go.
// Each is given out once, since there is no garbage collector that frees it.
const firstPort, lastPort = 30003, 30059

// takenPort and freePort are nodePorts of this test, written TAKEN and FREE in a spec.
func takenPort() int32 { return portOf("TAKEN") }
func freePort() int32  { return portOf("FREE") }

var portsOf = map[string]int32{}

// portOf is the number that a word stands for in this test.
func portOf(word string) int32 {
	GinkgoHelper()
	key := namespace + "/" + word
	if portsOf[key] == 0 {
		portsOf[key] = firstPort + int32(len(portsOf))
		Expect(portsOf[key]).To(BeNumerically("<=", lastPort), "too many tests ask for explicit nodePorts")
	}
	return portsOf[key]
}

// parse reads a ServiceGroup from the YAML of its spec.
func parse(name, spec string) *v1alpha1.ServiceGroup {
	GinkgoHelper()
	sg := &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	for _, word := range []string{"TAKEN", "FREE"} {
		if strings.Contains(spec, word) {
			spec = strings.ReplaceAll(spec, word, fmt.Sprint(portOf(word)))
		}
	}
	Expect(yaml.UnmarshalStrict([]byte(spec), &sg.Spec)).To(Succeed())
	return sg
}

// create creates a ServiceGroup from the YAML of its spec.
func create(name, spec string) *v1alpha1.ServiceGroup {
	GinkgoHelper()
	sg := parse(name, spec)
	Expect(k8s.Create(ctx, sg)).To(Succeed())
	return sg
}

// edit changes an object as kubectl edit does.
func edit[T client.Object](object T, change func(T)) {
	GinkgoHelper()
	Eventually(func() error {
		if err := k8s.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		change(object)
		return k8s.Update(ctx, object)
	}).Should(Succeed())
}

// respec replaces the spec of a ServiceGroup.
func respec(sg *v1alpha1.ServiceGroup, spec string) {
	GinkgoHelper()
	want := parse(sg.Name, spec)
	edit(sg, func(sg *v1alpha1.ServiceGroup) { sg.Spec = want.Spec })
}

// podSpec describes a pod; ports are named container ports.
type podSpec struct {
	name    string
	labels  map[string]string
	unready bool
	ports   map[string]int32
	ips     []string
	node    string
	// hostname and subdomain are as a StatefulSet sets them.
	hostname, subdomain string
}

// runPod creates a pod with an address, as kubelet would report it.
func runPod(spec podSpec) *corev1.Pod {
	GinkgoHelper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: spec.name, Namespace: namespace, Labels: spec.labels},
		Spec: corev1.PodSpec{
			NodeName: nodeName,
			Hostname: spec.hostname, Subdomain: spec.subdomain,
			Containers: []corev1.Container{{Name: "main", Image: "main"}},
		},
	}
	if spec.node != "" {
		pod.Spec.NodeName = spec.node
	}
	for name, number := range spec.ports {
		pod.Spec.Containers[0].Ports = append(pod.Spec.Containers[0].Ports, corev1.ContainerPort{Name: name, ContainerPort: number})
	}
	Expect(k8s.Create(ctx, pod)).To(Succeed())
	if spec.ips == nil {
		n := lastPodIP.Add(1)
		spec.ips = []string{fmt.Sprintf("10.244.%d.%d", n/250, 1+n%250), fmt.Sprintf("fd00:244::%x", n)}
	}
	pod.Status.Phase = corev1.PodRunning
	for _, ip := range spec.ips {
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	pod.Status.PodIP = spec.ips[0]
	setReady(pod, !spec.unready)
	return pod
}

// setReady reports the readiness of a pod.
func setReady(pod *corev1.Pod, ready bool) {
	GinkgoHelper()
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Now()}}
	Expect(k8s.Status().Update(ctx, pod)).To(Succeed())
}

// service gets the generated Service.
func service(g Gomega, name string) *corev1.Service {
	svc := &corev1.Service{}
	g.Expect(k8s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, svc)).To(Succeed())
	return svc
}

// slicesOf lists the slices of a ServiceGroup. Who polls may see the past: the API server takes up
// to 100 ms to be sure that it shows the present (kubernetes 1.31, ConsistentListFromCache).
func slicesOf(g Gomega, name string) []discoveryv1.EndpointSlice {
	options := &client.ListOptions{Namespace: namespace}
	client.MatchingLabels{discoveryv1.LabelServiceName: name}.ApplyToList(options)
	if g != Default {
		options.Raw = &metav1.ListOptions{ResourceVersion: "0"}
	}
	var list discoveryv1.EndpointSliceList
	g.Expect(k8s.List(ctx, &list, options)).To(Succeed())
	return list.Items
}

// endpoints are the IPv4 endpoints of a ServiceGroup as lines "group/port ip:number conditions",
// where conditions are of r(eady), s(erving) and t(erminating).
func endpoints(g Gomega, name string) []string { return endpointLines(slicesOf(g, name)) }

func endpointLines(all []discoveryv1.EndpointSlice) []string {
	lines := []string{}
	for _, slice := range all {
		if slice.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		for _, e := range slice.Endpoints {
			for _, p := range slice.Ports {
				lines = append(lines, fmt.Sprintf("%s/%s %s:%d %s", slice.Labels[v1alpha1.LabelGroup], *p.Name, e.Addresses[0], *p.Port, flags(e.Conditions)))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func flags(c discoveryv1.EndpointConditions) string {
	out := ""
	for _, f := range []struct {
		on   *bool
		flag string
	}{{c.Ready, "r"}, {c.Serving, "s"}, {c.Terminating, "t"}} {
		if ptr.Deref(f.on, false) {
			out += f.flag
		}
	}
	return out
}

// endpointsOf polls the endpoints.
func endpointsOf(name string) func(Gomega) []string {
	return func(g Gomega) []string { return endpoints(g, name) }
}

// at is a line of endpoints for a pod.
func at(groupAndPort string, pod *corev1.Pod, number int, flags string) string {
	return fmt.Sprintf("%s %s:%d %s", groupAndPort, pod.Status.PodIP, number, flags)
}

// revisionsOf polls the accepted revisions of a ServiceGroup.
func revisionsOf(name string) func(Gomega) []appsv1.ControllerRevision {
	return func(g Gomega) []appsv1.ControllerRevision {
		var list appsv1.ControllerRevisionList
		g.Expect(k8s.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.LabelServiceGroup: name})).To(Succeed())
		return list.Items
	}
}

// statusOf polls the status of a ServiceGroup.
func statusOf(sg *v1alpha1.ServiceGroup) func(Gomega) v1alpha1.ServiceGroupStatus {
	return func(g Gomega) v1alpha1.ServiceGroupStatus {
		now := &v1alpha1.ServiceGroup{}
		g.Expect(k8s.Get(ctx, client.ObjectKeyFromObject(sg), now)).To(Succeed())
		return now.Status
	}
}

// conditionOf polls a condition of the current generation as "status reason: message".
func conditionOf(sg *v1alpha1.ServiceGroup, kind string) func(Gomega) string {
	return func(g Gomega) string {
		now := &v1alpha1.ServiceGroup{}
		g.Expect(k8s.Get(ctx, client.ObjectKeyFromObject(sg), now)).To(Succeed())
		c := apimeta.FindStatusCondition(now.Status.Conditions, kind)
		g.Expect(c).NotTo(BeNil())
		g.Expect(c.ObservedGeneration).To(Equal(now.Generation))
		return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
	}
}

// accepted polls the condition Accepted.
func accepted(sg *v1alpha1.ServiceGroup) func(Gomega) string {
	return conditionOf(sg, v1alpha1.ConditionAccepted)
}

// ready polls the condition Ready.
func ready(sg *v1alpha1.ServiceGroup) func(Gomega) string {
	return conditionOf(sg, v1alpha1.ConditionReady)
}

// reasons are the events of a ServiceGroup as "type reason".
func reasons(g Gomega, name string) []string {
	var list eventsv1.EventList
	g.Expect(k8s.List(ctx, &list, client.InNamespace(namespace))).To(Succeed())
	var out []string
	for _, e := range list.Items {
		if e.Regarding.Name == name {
			out = append(out, e.Type+" "+e.Reason)
		}
	}
	return out
}

// gone polls whether an object is gone.
func gone(object client.Object) func() bool {
	return func() bool {
		return apierrors.IsNotFound(k8s.Get(ctx, client.ObjectKeyFromObject(object), object))
	}
}

func numbered(what string, i int) string { return fmt.Sprintf("%s-%d", what, i) }

func quantity(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.DecimalSI) }
