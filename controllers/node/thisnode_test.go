package node

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func node1() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node1", Labels: map[string]string{corev1.LabelTopologyZone: "east", "app": "x"}},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24"}},
		Status: corev1.NodeStatus{
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.0.1"}, {Type: corev1.NodeHostName, Address: "node1"}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

// TestOnlyWhatMattersOfTheNodeRebuildsEverything: a kubelet writes the Node every few minutes.
func TestOnlyWhatMattersOfTheNodeRebuildsEverything(t *testing.T) {
	options := Options{Client: kubernetes.NewForConfigOrDie(&rest.Config{Host: "192.0.2.1"}), NodeName: "node1", DetectLocal: DetectNodeCIDR}
	for _, test := range []struct {
		name   string
		change func(*corev1.Node)
		all    bool
	}{
		{"nothing", func(*corev1.Node) {}, false},
		{"another label", func(n *corev1.Node) { n.Labels["app"], n.Labels[corev1.LabelTopologyRegion] = "y", "europe" }, false},
		{"an annotation", func(n *corev1.Node) { n.Annotations = map[string]string{"app": "y"} }, false},
		{"a heartbeat", func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(time.Unix(1, 0)) }, false},
		{"a condition", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }, false},
		{"a taint", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "app", Effect: corev1.TaintEffectNoSchedule}}
		}, false},
		{"images", func(n *corev1.Node) { n.Status.Images = []corev1.ContainerImage{{Names: []string{"app"}}} }, false},
		{"another host name", func(n *corev1.Node) { n.Status.Addresses[1].Address = "other" }, false},
		{"the zone", func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = "west" }, true},
		{"no zone", func(n *corev1.Node) { delete(n.Labels, corev1.LabelTopologyZone) }, true},
		{"the range of its pods", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.244.2.0/24"} }, true},
		{"the address", func(n *corev1.Node) { n.Status.Addresses[0].Address = "192.168.0.2" }, true},
		{"an IPv6 address", func(n *corev1.Node) {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "fd00::1"})
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, err := New(options)
			if err != nil {
				t.Fatal(err)
			}
			web := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
			if err := a.watcher.services.GetIndexer().Add(web); err != nil {
				t.Fatal(err)
			}
			work := func(node *corev1.Node, full bool) (services int, ranges bool) {
				t.Helper()
				slimmed, err := slim(node)
				if err == nil {
					err = a.watcher.node.GetIndexer().Update(slimmed)
				}
				if err != nil {
					t.Fatal(err)
				}
				names, written, err := a.chooseWork(full, changes{node: true})
				if err != nil {
					t.Fatal(err)
				}
				return len(names), written != nil
			}
			if services, ranges := work(node1(), true); services != 1 || !ranges {
				t.Fatalf("at first %d Services are built, ranges written: %v", services, ranges)
			}
			changed := node1()
			test.change(changed)
			if services, ranges := work(changed, false); (services == 1) != test.all || ranges != test.all {
				t.Errorf("%d Services are built, ranges written: %v; want everything: %v", services, ranges, test.all)
			}
		})
	}
}
