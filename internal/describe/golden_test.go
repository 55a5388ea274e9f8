package describe

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

var update = flag.Bool("update", false, "write the golden files")

// requireGolden compares text with a file of testdata.
func requireGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s differs (-update writes it); got\n%s", file, got)
	}
}

// world is a namespace in which a ServiceGroup lives, built up step by step.
type world struct{ Observed }

// newWorld is the ServiceGroup shop/web on two nodes, with a group web on port 80 and a group api on
// port 9000, served by the agents of both nodes, and without a pod.
func newWorld() *world {
	w := &world{}
	rpc := intstr.FromString("rpc")
	target := intstr.FromInt32(8080)
	w.Group = &v1alpha1.ServiceGroup{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u"},
		Spec: v1alpha1.ServiceGroupSpec{
			Type: corev1.ServiceTypeNodePort,
			Groups: []v1alpha1.Group{
				{Name: "web", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
				{Name: "api", Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"api", "api-next"}}}}},
			},
			Ports: []v1alpha1.Port{
				{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: &target, Backends: []v1alpha1.Backend{{Group: "web"}}},
				{Name: "rpc", Protocol: corev1.ProtocolTCP, Port: 9000, TargetPort: &rpc, Backends: []v1alpha1.Backend{{Group: "api"}}},
			},
		},
	}
	w.condition(v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted, "Service web serves this spec")
	w.Nodes = plan.Nodes{}
	for i, name := range []string{"node1", "node2"} {
		w.Nodes[name] = &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: []string{"zone-a", "zone-b"}[i]}},
			Spec:       corev1.NodeSpec{PodCIDRs: []string{[]string{"10.244.1.0/24", "10.244.2.0/24"}[i]}},
			Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: []string{"192.168.0.1", "192.168.0.2"}[i]}}},
		}
		w.Reports = append(w.Reports, Report{Node: name, Programmed: plan.Revisions{Services: "7", EndpointSlices: "9"}})
	}
	w.serve()
	return w
}

// serve makes the Service that the spec asks for.
func (w *world) serve() {
	w.Accepted = w.Group.Spec.DeepCopy()
	w.Service = &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web", ResourceVersion: "7",
			Labels: map[string]string{v1alpha1.LabelServiceProxyName: v1alpha1.ServiceProxyName},
		},
		Spec: corev1.ServiceSpec{
			Type: w.Group.Spec.Type, ClusterIP: "10.96.0.20", ClusterIPs: []string{"10.96.0.20"},
			Ports: []corev1.ServicePort{
				{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080},
				{Name: "rpc", Protocol: corev1.ProtocolTCP, Port: 9000, NodePort: 30900},
			},
		},
	}
}

func (w *world) condition(kind string, status metav1.ConditionStatus, reason, message string) {
	w.Group.Status.Conditions = append(w.Group.Status.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message})
}

// pod adds a running pod with a named port.
func (w *world) pod(name, app, node, ip string, ready bool, portName string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
			Ports: []corev1.ContainerPort{{Name: portName, ContainerPort: 9090, Protocol: corev1.ProtocolTCP}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip},
	}
	condition := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}
	if !ready {
		condition.Status, condition.Reason, condition.Message = corev1.ConditionFalse, "ContainersNotReady", "containers with unready status: [web]"
	}
	pod.Status.Conditions = []corev1.PodCondition{condition}
	if ip != "" {
		pod.Status.PodIPs = []corev1.PodIP{{IP: ip}}
	}
	w.Pods = append(w.Pods, pod)
	return pod
}

// slice writes what the manager would of a group's pods, with these endpoints.
func (w *world) slice(group, portName string, port int32, endpoints ...discoveryv1.Endpoint) {
	w.Slices = append(w.Slices, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-" + group, ResourceVersion: "9", Labels: map[string]string{v1alpha1.LabelGroup: group}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
		Ports: []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: ptr.To(corev1.ProtocolTCP)}},
	})
	status := v1alpha1.GroupStatus{Name: group, Matched: int32(len(endpoints))}
	for _, ep := range endpoints {
		if *ep.Conditions.Ready {
			status.Ready++
		}
	}
	w.Group.Status.Groups = append(w.Group.Status.Groups, status)
}

func endpoint(pod, node, ip string, state State) discoveryv1.Endpoint {
	zone := map[string]string{"node1": "zone-a", "node2": "zone-b"}[node]
	return discoveryv1.Endpoint{
		Addresses: []string{ip}, NodeName: &node, Zone: &zone, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pod},
		Conditions: discoveryv1.EndpointConditions{
			Ready: ptr.To(state == Ready), Serving: ptr.To(state != NotReady), Terminating: ptr.To(state == Terminating),
		},
	}
}

// populated has pods in every state.
func populated() *world {
	w := newWorld()
	w.pod("web-1", "web", "node1", "10.244.1.2", true, "http")
	w.pod("web-2", "web", "node2", "10.244.2.2", true, "http")
	w.pod("web-3", "web", "node1", "10.244.1.3", false, "http")
	w.pod("web-4", "web", "node2", "10.244.2.4", true, "http").DeletionTimestamp = &metav1.Time{}
	w.pod("web-5", "web", "gone", "10.244.9.5", true, "http")
	w.pod("web-6", "web", "node1", "", false, "http").Status.Phase = corev1.PodPending
	w.pod("web-7", "web", "node1", "169.254.1.1", true, "http")
	w.pod("web-8", "web", "node1", "10.244.1.8", false, "http").Status.Phase = corev1.PodSucceeded
	w.pod("api-1", "api", "node1", "10.244.1.5", true, "rpc")
	w.pod("api-2", "api-next", "node2", "10.244.2.5", true, "grpc")
	w.pod("db-1", "db", "node1", "10.244.1.9", true, "")
	w.slice("web", "http", 8080, endpoint("web-1", "node1", "10.244.1.2", Ready), endpoint("web-2", "node2", "10.244.2.2", NotReady),
		endpoint("web-3", "node1", "10.244.1.3", NotReady), endpoint("web-4", "node2", "10.244.2.4", Terminating))
	w.slice("api", "rpc", 9090, endpoint("api-1", "node1", "10.244.1.5", Ready))
	return w
}
