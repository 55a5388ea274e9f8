package integration

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// What rapid draws it makes smaller when a check fails, and it prints the seed by which to repeat it:
// go test ./test/integration -ginkgo.focus='Any sequence of edits' -rapid.seed=N
var _ = Describe("Any sequence of edits", func() {
	It("to spec, pods and nodes, and any accident, ends in the objects of a fresh ServiceGroup", func() {
		limit("rapid.checks", "10")
		limit("rapid.steps", "10")
		rapid.Check(&rapidTest{FullGinkgoTInterface: GinkgoT()}, func(t *rapid.T) {
			w := newEditedWorld(t)
			defer w.remove()
			t.Repeat(map[string]func(*rapid.T){
				"spec":     func(t *rapid.T) { respec(w.sg, drawSpec(t)) },
				"field":    w.editField,
				"pod":      w.editPod,
				"node":     w.editNode,
				"accident": w.accident,
				"": func(t *rapid.T) { // after each; mostly the next edit overtakes the operator
					if rapid.IntRange(0, 2).Draw(t, "look") == 0 {
						w.compareToFresh(t)
					}
				},
			})
			w.compareToFresh(t)
		})
	})
})

// limit sets a flag that the command line leaves as it is: each step takes a tenth of a second.
func limit(name, value string) {
	GinkgoHelper()
	if f := flag.Lookup(name); f.Value.String() == f.DefValue {
		Expect(f.Value.Set(value)).To(Succeed())
	}
}

// rapidTest lets rapid tell the whole story of a failure: ginkgo ends a test with its first error.
type rapidTest struct {
	FullGinkgoTInterface
	failed bool
}

func (t *rapidTest) Errorf(format string, args ...any) {
	t.failed = true
	t.Logf(format, args...)
}

func (t *rapidTest) Failed() bool { return t.failed }

func (t *rapidTest) FailNow() { Fail("rapid has found a sequence, see above") }

// editedWorld is a namespace with a ServiceGroup, and the pods and nodes around it.
type editedWorld struct {
	// outer is the namespace of the test.
	outer string
	sg    *v1alpha1.ServiceGroup
	pods  []*corev1.Pod
	// nodes are those that exist; nil stands for one that does not.
	nodes []*corev1.Node
	// born and looked count pods and comparisons, for names of their own.
	born, looked int
}

const editedNodes = 2

func newEditedWorld(t *rapid.T) *editedWorld {
	w := &editedWorld{outer: namespace, nodes: make([]*corev1.Node, editedNodes)}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "edits-"}}
	Expect(k8s.Create(ctx, ns)).To(Succeed())
	namespace = ns.Name
	for i := range w.nodes {
		w.drawNode(t, i)
	}
	for range 3 {
		w.drawPod(t)
	}
	w.sg = create("edited", drawSpec(t))
	return w
}

func (w *editedWorld) remove() {
	Expect(k8s.DeleteAllOf(ctx, &v1alpha1.ServiceGroup{}, client.InNamespace(namespace))).To(Succeed())
	Expect(k8s.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(namespace), client.GracePeriodSeconds(0))).To(Succeed())
	for _, node := range w.nodes {
		if node != nil {
			Expect(k8s.Delete(ctx, node)).To(Succeed())
		}
	}
	namespace = w.outer
}

// editField edits a part of the spec and leaves the rest as it is.
func (w *editedWorld) editField(t *rapid.T) {
	var change func(*v1alpha1.ServiceGroupSpec)
	switch rapid.SampledFrom([]string{"group", "appProtocol", "exposeGroups"}).Draw(t, "field") {
	case "group":
		to := rapid.SampledFrom([]string{"c", "d"}).Draw(t, "name")
		change = func(spec *v1alpha1.ServiceGroupSpec) { renameGroup(spec, to) }
	case "appProtocol":
		to := rapid.SampledFrom([]string{"http", "kubernetes.io/h2c", ""}).Draw(t, "appProtocol")
		change = func(spec *v1alpha1.ServiceGroupSpec) {
			for i := range spec.Ports {
				spec.Ports[i].AppProtocol = nil
				if to != "" {
					spec.Ports[i].AppProtocol = &to
				}
			}
		}
	case "exposeGroups":
		change = func(spec *v1alpha1.ServiceGroupSpec) {
			spec.ExposeGroups = !spec.ExposeGroups && spec.Type != corev1.ServiceTypeExternalName
		}
	}
	edit(w.sg, func(sg *v1alpha1.ServiceGroup) { change(&sg.Spec) })
}

// renameGroup gives the last group another name, also where ports lead to it.
func renameGroup(spec *v1alpha1.ServiceGroupSpec, to string) {
	if len(spec.Groups) == 0 || slices.ContainsFunc(spec.Groups, func(g v1alpha1.Group) bool { return g.Name == to }) {
		return
	}
	group := &spec.Groups[len(spec.Groups)-1]
	for i := range spec.Ports {
		for j := range spec.Ports[i].Backends {
			if spec.Ports[i].Backends[j].Group == group.Name {
				spec.Ports[i].Backends[j].Group = to
			}
		}
	}
	group.Name = to
}

// drawOther draws something else than what there is: an edit that changes nothing shows nothing.
func drawOther(t *rapid.T, what string, than string, of ...string) string {
	return rapid.SampledFrom(slices.DeleteFunc(of, func(s string) bool { return s == than })).Draw(t, what)
}

// drawPod runs a new pod.
func (w *editedWorld) drawPod(t *rapid.T) {
	w.born++
	w.pods = append(w.pods, runPod(podSpec{
		name: numbered("pod", w.born), labels: map[string]string{"app": drawApp(t, "")},
		unready: rapid.Bool().Draw(t, "unready"), node: w.nodeName(rapid.IntRange(0, editedNodes-1).Draw(t, "node of the pod")),
		ports: map[string]int32{"web": rapid.SampledFrom([]int32{8080, 8081}).Draw(t, "web")},
	}))
}

func drawApp(t *rapid.T, than string) string { return drawOther(t, "app", than, "a", "b", "c", "none") }

func (w *editedWorld) editPod(t *rapid.T) {
	if len(w.pods) == 0 {
		w.drawPod(t)
		return
	}
	i := rapid.IntRange(0, len(w.pods)-1).Draw(t, "pod")
	pod := w.pods[i]
	switch rapid.SampledFrom([]string{"ready", "label", "terminate", "remove", "more"}).Draw(t, "edit of the pod") {
	case "ready":
		setReady(pod, pod.Status.Conditions[0].Status != corev1.ConditionTrue)
	case "label":
		app := drawApp(t, pod.Labels["app"])
		edit(pod, func(p *corev1.Pod) { p.Labels["app"] = app })
	case "terminate":
		Expect(k8s.Delete(ctx, pod)).To(Succeed())
		Expect(k8s.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
	case "remove":
		Expect(k8s.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
		w.pods = slices.Delete(w.pods, i, i+1)
	case "more":
		w.drawPod(t)
	}
}

func (w *editedWorld) nodeName(i int) string { return fmt.Sprintf("%s-%d", namespace, i) }

// drawNode adds a node, or moves it to another zone.
func (w *editedWorld) drawNode(t *rapid.T, i int) {
	node := w.nodes[i]
	if node == nil {
		node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.nodeName(i)}}
		Expect(k8s.Create(ctx, node)).To(Succeed())
		w.nodes[i] = node
	}
	zone := drawOther(t, "zone", node.Labels[corev1.LabelTopologyZone], "zone-a", "zone-b", "")
	edit(node, func(n *corev1.Node) {
		n.Labels = nil
		if zone != "" {
			n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
		}
	})
}

func (w *editedWorld) editNode(t *rapid.T) {
	i := rapid.IntRange(0, editedNodes-1).Draw(t, "node")
	if w.nodes[i] == nil || rapid.IntRange(0, 3).Draw(t, "keep the node") > 0 {
		w.drawNode(t, i)
		return
	}
	Expect(k8s.Delete(ctx, w.nodes[i])).To(Succeed())
	w.nodes[i] = nil
}

// accident deletes a generated Service, or empties a slice.
func (w *editedWorld) accident(t *rapid.T) {
	lost := rapid.Bool().Draw(t, "Service lost")
	svc := &corev1.Service{}
	if err := k8s.Get(ctx, client.ObjectKeyFromObject(w.sg), svc); err != nil {
		return // it is not there yet
	}
	if lost {
		Expect(client.IgnoreNotFound(k8s.Delete(ctx, svc))).To(Succeed())
		return
	}
	for _, slice := range slicesOf(Default, w.sg.Name) {
		slice.Endpoints = nil
		_ = k8s.Update(ctx, &slice) // the operator may be quicker
	}
}

// compareToFresh compares with a ServiceGroup that is created with the spec to which the edited one has come.
func (w *editedWorld) compareToFresh(t *rapid.T) {
	w.looked++
	Expect(k8s.Get(ctx, client.ObjectKeyFromObject(w.sg), w.sg)).To(Succeed())
	fresh := &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Name: numbered("fresh", w.looked), Namespace: namespace}, Spec: w.sg.Spec}
	Expect(k8s.Create(ctx, fresh)).To(Succeed())
	await(t, func(g Gomega) {
		g.Expect(accepted(fresh)(g)).To(HavePrefix("True"))
		g.Expect(cmp.Diff(portrait(g, fresh), portrait(g, w.sg))).To(BeEmpty())
	})
	Expect(k8s.Delete(ctx, fresh)).To(Succeed())
}

// await polls until something holds, or else has rapid look for the shortest way there.
func await(t *rapid.T, holds func(Gomega)) {
	NewWithT(t).Eventually(holds).WithTimeout(10 * time.Second).WithPolling(20 * time.Millisecond).Should(Succeed())
}

// drawSpec is a spec that every other one may be changed into.
func drawSpec(t *rapid.T) string {
	pick := func(of ...string) string { return rapid.SampledFrom(of).Draw(t, "spec") }
	kind := pick("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
	lines := []string{"type: " + kind, "groups: [{name: a, selector: {matchLabels: {app: a}}}, {name: b, selector: {matchExpressions: [{key: app, operator: In, values: [b, c]}]}}]"}
	if kind == "ExternalName" {
		return strings.Join(append(lines, "externalName: "+pick("one", "two")+".example.com"), "\n")
	}
	lines = append(lines,
		pick(
			"ports: [{name: http, port: 80}]",
			"ports: [{name: http, port: 80, targetPort: web, appProtocol: http}, {name: dns, port: 53, protocol: UDP}]",
			"ports: [{name: dns, port: 80}, {name: http, port: 81, backends: [{group: b, targetPort: 9090}]}]",
		),
		pick("", "sessionAffinity: ClientIP", "sessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 7}}"),
		pick("", "internalTrafficPolicy: Local"),
		pick("", "trafficDistribution: PreferSameZone", "trafficDistribution: PreferSameNode"),
		pick("", "publishNotReadyAddresses: true"),
		pick("", "dataplane: Cluster"),
		pick("", "exposeGroups: true"),
		pick("", "serviceMetadata: {labels: {team: blue}, annotations: {example.com/pool: red}}", "serviceMetadata: {labels: {tier: web}}"),
		pick("ipFamilyPolicy: SingleStack", "ipFamilyPolicy: PreferDualStack", "ipFamilyPolicy: RequireDualStack\nipFamilies: [IPv4, IPv6]",
			"ipFamilyPolicy: PreferDualStack\nipFamilies: [IPv4]"), // a Service keeps what it has without one
	)
	if kind != "ClusterIP" {
		lines = append(lines, pick("", "externalTrafficPolicy: Local"))
	}
	if kind == "LoadBalancer" {
		lines = append(lines, pick("", "allocateLoadBalancerNodePorts: false"), pick("", "loadBalancerSourceRanges: [192.0.2.0/24]"))
	}
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool { return line == "" }), "\n")
}
