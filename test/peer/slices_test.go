package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/convert"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// world is the same pods in two namespaces: in one, Services select them, in the other the ServiceGroups that
// these Services are converted to.
type world struct {
	*cluster
	client client.Client
	// selectors are those of the Services, by name.
	selectors map[string]map[string]string
	// nudged is when Kubernetes' controller was made to look at a Service, by name.
	nudged map[string]time.Time
}

const (
	theirs, ours = "services", "servicegroups"
	// randomPods and pairs are how many there are of them.
	randomPods, pairs = 30, 20
)

var apps, tiers = []string{"a", "b", "c"}, []string{"x", "y"}

// TestSameEndpointsAsKubernetes changes random pods, and Kubernetes' own controller and the operator must
// write the same endpoints for the same Services.
func TestSameEndpointsAsKubernetes(t *testing.T) {
	lab.Require(t)
	seed := number(t, "SERVICEGROUP_PEER_SEED", 1)
	t.Logf("SERVICEGROUP_PEER_SEED=%d", seed)
	w := newWorld(t, seed)
	for i := range randomPods {
		w.createPod(t, fmt.Sprintf("pod-%d", i))
	}
	w.createSentinels(t)
	for i := range pairs {
		w.createPair(t, i)
	}
	for round := range 6 {
		w.setSentinels(t, round%2 == 0)
		w.awaitSame(t, round%2 == 0)
		for range 12 {
			w.editPod(t)
		}
	}
}

func newWorld(t *testing.T, seed int) *world {
	t.Helper()
	l := startLab(t, lab.Options{Nodes: 2, Manager: true})
	if _, err := l.StartControllerManager(t.Context(), "--controllers=endpointslice-controller"); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(uint64(seed), 1)) //nolint:gosec // tests are to be repeatable
	w := &world{cluster: &cluster{Lab: l, node: l.Nodes()[0], random: random}, selectors: map[string]map[string]string{}, nudged: map[string]time.Time{}}
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.client, err = client.New(l.ControlPlane.Config(), client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{theirs, ours} {
		if err := w.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// both makes the same change in both namespaces.
func (w *world) both(t *testing.T, change func(namespace string) error) {
	t.Helper()
	if err := errors.Join(change(theirs), change(ours)); err != nil {
		t.Fatal(err)
	}
}

// createPair creates a Service, and the ServiceGroup that it is converted to.
func (w *world) createPair(t *testing.T, number int) {
	t.Helper()
	c := w.cluster
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%d", number), Namespace: theirs}}
	svc.Spec = c.randomService(number).Spec
	svc.Spec.ExternalIPs = nil
	svc.Spec.Selector = map[string]string{"app": pick(c, apps...)}
	if c.oneIn(3) {
		svc.Spec.Selector["tier"] = pick(c, tiers...)
	}
	w.selectors[svc.Name] = svc.Spec.Selector
	for i := range svc.Spec.Ports {
		svc.Spec.Ports[i].TargetPort = pick(c, intstr.FromString("http"), intstr.FromString("other"), intstr.FromInt32(9090))
	}
	svc.Spec.PublishNotReadyAddresses = c.oneIn(4)
	if c.oneIn(3) {
		svc.Spec.TrafficDistribution = ptr.To(pick(c, corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameNode))
	}
	if svc.Spec.Type == corev1.ServiceTypeClusterIP && c.oneIn(2) {
		svc.Spec.ClusterIP = corev1.ClusterIPNone
	}
	result, err := convert.Service(svc)
	if err != nil {
		t.Fatal(err)
	}
	result.Group.Namespace = ours
	if err := errors.Join(w.client.Create(t.Context(), svc), w.client.Create(t.Context(), result.Group)); err != nil {
		t.Fatal(err)
	}
}

// createPod creates a random pod.
func (w *world) createPod(t *testing.T, name string) {
	t.Helper()
	c := w.cluster
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": pick(c, apps...), "tier": pick(c, tiers...)}}}
	pod.Spec.NodeName = pick(c, "node1", "node1", "node2", "node2", "gone")
	if c.oneIn(3) {
		pod.Spec.Hostname, pod.Spec.Subdomain = "host-"+name, fmt.Sprintf("web-%d", c.random.IntN(pairs))
	}
	w.create(t, pod, w.randomStatus())
}

func (w *world) create(t *testing.T, pod corev1.Pod, status corev1.PodStatus) {
	t.Helper()
	c := w.cluster
	container := corev1.Container{Name: "server", Image: "server"}
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		for _, port := range []string{"http", "other"} {
			if !c.oneIn(3) {
				container.Ports = append(container.Ports, corev1.ContainerPort{
					Name: port, Protocol: protocol, ContainerPort: pick(c, podPorts...) + int32(len(container.Ports)),
				})
				break
			}
		}
	}
	if len(container.Ports) == 2 && container.Ports[0].Name == container.Ports[1].Name {
		container.Ports = container.Ports[:1]
	}
	pod.Spec.Containers = []corev1.Container{container}
	w.both(t, func(namespace string) error {
		created := pod.DeepCopy()
		created.Namespace = namespace
		if err := w.client.Create(t.Context(), created); err != nil {
			return err
		}
		created.Status = *status.DeepCopy()
		return w.client.Status().Update(t.Context(), created)
	})
}

func (w *world) randomStatus() corev1.PodStatus {
	c := w.cluster
	status := corev1.PodStatus{Phase: pick(c, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed)}
	setReady(&status, c.oneIn(2))
	v4, v6 := fmt.Sprintf("10.244.9.%d", 1+c.random.IntN(250)), fmt.Sprintf("fd00:10:244:9::%x", 1+c.random.IntN(250))
	for _, ip := range pick(c, []string{v4, v6}, []string{v4, v6}, []string{v6, v4}, []string{v4}, []string{v6}, nil) {
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(status.PodIPs) > 0 {
		status.PodIP = status.PodIPs[0].IP
	}
	return status
}

func setReady(status *corev1.PodStatus, ready bool) {
	value := corev1.ConditionFalse
	if ready {
		value = corev1.ConditionTrue
	}
	status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: value}}
}

// editPod changes a random pod as its life would.
func (w *world) editPod(t *testing.T) {
	t.Helper()
	c := w.cluster
	name := fmt.Sprintf("pod-%d", c.random.IntN(randomPods))
	kind, app, status, ready := c.random.IntN(6), pick(c, apps...), w.randomStatus(), c.oneIn(2)
	w.both(t, func(namespace string) error {
		var pod corev1.Pod
		if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &pod); err != nil {
			return client.IgnoreNotFound(err) // it was deleted
		}
		switch kind {
		case 0:
			pod.Labels["app"] = app
			return w.client.Update(t.Context(), &pod)
		case 1:
			return w.client.Delete(t.Context(), &pod) // without a kubelet it terminates for good, if it has a node
		case 2:
			return w.client.Delete(t.Context(), &pod, client.GracePeriodSeconds(0))
		case 3:
			pod.Status = *status.DeepCopy()
		default:
			setReady(&pod.Status, ready)
		}
		return w.client.Status().Update(t.Context(), &pod)
	})
}

// createSentinels creates a pod for each selector that there can be.
func (w *world) createSentinels(t *testing.T) {
	t.Helper()
	for i, app := range apps {
		for j, tier := range tiers {
			pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "sentinel-" + app + tier, Labels: map[string]string{"app": app, "tier": tier}}}
			pod.Spec.NodeName = "node1"
			status := corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{
				{IP: fmt.Sprintf("10.244.8.%d", 10*i+j+1)}, {IP: fmt.Sprintf("fd00:10:244:8::%d", 10*i+j+1)},
			}}
			status.PodIP = status.PodIPs[0].IP
			w.create(t, pod, status)
		}
	}
}

// setSentinels is the last change of a round: whoever shows it has seen all the others.
func (w *world) setSentinels(t *testing.T, ready bool) {
	t.Helper()
	for _, app := range apps {
		for _, tier := range tiers {
			w.both(t, func(namespace string) error {
				var pod corev1.Pod
				if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "sentinel-" + app + tier}, &pod); err != nil {
					return err
				}
				setReady(&pod.Status, ready)
				return w.client.Status().Update(t.Context(), &pod)
			})
		}
	}
}

// awaitSame waits until both have seen the sentinels as they are, and compares what both have written.
func (w *world) awaitSame(t *testing.T, serving bool) {
	t.Helper()
	var endpoints int
	var said error
	err := lab.Await(t.Context(), time.Minute, func(context.Context) error { // whose end would hide what differs
		ctx := t.Context()
		endpoints, said = 0, nil
		for name, selector := range w.selectors {
			a, seenByThem, err := w.endpoints(ctx, theirs, name, serving)
			if err != nil {
				return err
			}
			b, seenByUs, err := w.endpoints(ctx, ours, name, serving)
			if err != nil {
				return err
			}
			want := len(tiers)
			if selector["tier"] != "" {
				want = 1
			}
			if seenByThem != want && time.Since(w.nudged[name]) > time.Second {
				w.nudge(t, name)
			}
			if seenByThem != want || seenByUs != want {
				return fmt.Errorf("%s: Kubernetes has seen %d and the operator %d of %d pods as they are", name, seenByThem, seenByUs, want)
			}
			endpoints += len(a)
			if !slices.Equal(a, b) {
				said = errors.Join(said, fmt.Errorf("%s %v:\n  Kubernetes:   %s\n  the operator: %s", name, selector,
					strings.Join(without(a, b), "\n    "), strings.Join(without(b, a), "\n    ")))
			}
		}
		return said
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d endpoints of %d Services are the same", endpoints, len(w.selectors))
}

// nudge makes Kubernetes' controller look at a Service at once. After a conflict or a stale cache it waits,
// for longer each time.
func (w *world) nudge(t *testing.T, name string) {
	t.Helper()
	w.nudged[name] = time.Now()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: theirs}}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"nudged":%q}}}`, w.nudged[name])
	if err := w.client.Patch(t.Context(), svc, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		t.Fatal(err)
	}
}

// without are the lines of a that b lacks.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(line string) bool { return slices.Contains(b, line) })
}

// endpoints are those of a Service, a line each, and the number of sentinels that are, or are not, serving.
func (w *world) endpoints(ctx context.Context, namespace, name string, serving bool) (lines []string, seen int, err error) {
	list, err := w.Kubernetes.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	if err != nil {
		return nil, 0, err
	}
	sentinels := map[string]bool{}
	for _, slice := range list.Items {
		_, headless := slice.Labels[corev1.IsHeadlessService]
		var ports []string
		for _, port := range slice.Ports {
			ports = append(ports, fmt.Sprintf("%s:%d/%s", ptr.Deref(port.Name, ""), ptr.Deref(port.Port, -1), *port.Protocol))
		}
		slices.Sort(ports)
		for _, ep := range slice.Endpoints {
			c := ep.Conditions
			hints := ""
			if ep.Hints != nil {
				hints = ep.Hints.String()
			}
			lines = append(lines, fmt.Sprintf("%s %s ready %t serving %t terminating %t hostname %q node %q zone %q headless %t hints %s ports %v", ep.TargetRef.Name,
				ep.Addresses, *c.Ready, *c.Serving, *c.Terminating, ptr.Deref(ep.Hostname, ""), ptr.Deref(ep.NodeName, ""), ptr.Deref(ep.Zone, ""), headless, hints, ports))
			if strings.HasPrefix(ep.TargetRef.Name, "sentinel-") && *c.Serving == serving {
				sentinels[ep.TargetRef.Name] = true
			}
		}
	}
	slices.Sort(lines)
	return lines, len(sentinels), nil
}
