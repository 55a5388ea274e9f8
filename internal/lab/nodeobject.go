package lab

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AddNode adds a machine to the network and a ready Node object for it.
func (l *Lab) AddNode(ctx context.Context) (*Node, error) {
	node, err := l.Network.AddNode()
	if err != nil {
		return nil, err
	}
	object := l.nodeObject(node)
	status := object.Status
	if object, err = l.Kubernetes.CoreV1().Nodes().Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("creating node %s: %w", node.Name, err)
	}
	object.Status = status
	if _, err = l.Kubernetes.CoreV1().Nodes().UpdateStatus(ctx, object, metav1.UpdateOptions{}); err != nil {
		return nil, fmt.Errorf("updating the status of node %s: %w", node.Name, err)
	}
	return node, nil
}

func (l *Lab) nodeObject(node *Node) *corev1.Node {
	object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: map[string]string{
		corev1.LabelHostname:   node.Name,
		corev1.LabelOSStable:   "linux",
		corev1.LabelArchStable: "amd64",
	}}}
	if i := node.Number - 1; i < len(l.options.Zones) && l.options.Zones[i] != "" {
		object.Labels[corev1.LabelTopologyZone] = l.options.Zones[i]
	}
	object.Spec.PodCIDR = node.PodCIDRv4.String()
	object.Spec.PodCIDRs = []string{node.PodCIDRv4.String()}
	addresses := []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: node.Name},
		{Type: corev1.NodeInternalIP, Address: node.IPv4.String()},
	}
	if l.options.DualStack {
		object.Spec.PodCIDRs = append(object.Spec.PodCIDRs, node.PodCIDRv6.String())
		addresses = append(addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: node.IPv6.String()})
	}
	capacity := corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(maxPodNumber-1, resource.DecimalSI)}
	now := metav1.Now()
	object.Status = corev1.NodeStatus{
		Addresses:   addresses,
		Capacity:    capacity,
		Allocatable: capacity,
		NodeInfo:    corev1.NodeSystemInfo{OperatingSystem: "linux", OSImage: "servicegroup lab"},
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "LabReady",
			LastHeartbeatTime: now, LastTransitionTime: now,
		}},
	}
	return object
}
