package agent

import (
	"context"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTheNodeMayChange gives the node another address while the agent runs: NodePorts move to it.
func TestTheNodeMayChange(t *testing.T) {
	b := requireBed(t)
	endpoints := []netip.Addr{netip.MustParseAddr("10.244.200.1")}
	b.serviceOf(t, "moves", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, endpoints...)
	b.startAgent(t)
	b.awaitEndpoints(t, b.node.IPv4.String(), endpoints)

	const other = "192.0.2.77"
	before := b.setNodeAddress(t, other)
	t.Cleanup(func() { b.setNodeAddress(t, before) })
	b.awaitEndpoints(t, other, endpoints)
	b.awaitEndpoints(t, b.node.IPv4.String(), nil)
}

// setNodeAddress makes this the node's InternalIP and returns the one it had.
func (b *bed) setNodeAddress(t *testing.T, address string) (before string) {
	t.Helper()
	nodes := b.Kubernetes.CoreV1().Nodes()
	node, err := nodes.Get(context.Background(), b.node.Name, getOptions)
	if err != nil {
		t.Fatal(err)
	}
	for i := range node.Status.Addresses {
		if a := &node.Status.Addresses[i]; a.Type == corev1.NodeInternalIP && before == "" {
			before, a.Address = a.Address, address
		}
	}
	if _, err := nodes.UpdateStatus(context.Background(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	return before
}
