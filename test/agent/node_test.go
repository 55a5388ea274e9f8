package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
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

// TestTheNodeMayBeAway: while the Node is registered anew, or says no addresses, its NodePorts are served.
func TestTheNodeMayBeAway(t *testing.T) {
	b := requireBed(t)
	endpoints, others := []netip.Addr{netip.MustParseAddr("10.244.200.1")}, []netip.Addr{netip.MustParseAddr("10.244.200.2")}
	b.serviceOf(t, "stays", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, endpoints...)
	b.startAgent(t)
	b.awaitEndpoints(t, b.node.IPv4.String(), endpoints)
	const syncs = `servicegroup_agent_sync_duration_seconds_count{kind="change"}`
	nodes := b.Kubernetes.CoreV1().Nodes()
	before, err := nodes.Get(t.Context(), b.node.Name, getOptions)
	if err != nil {
		t.Fatal(err)
	}
	restore := func() {
		after := before.DeepCopy()
		after.ResourceVersion, after.UID = "", ""
		if _, err := nodes.Create(context.Background(), after, metav1.CreateOptions{}); err != nil {
			return // it is there
		}
		if _, err := nodes.UpdateStatus(context.Background(), after, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(restore)
	count := b.metric(t, syncs)
	if err := nodes.Delete(t.Context(), b.node.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent sees that the Node is gone", func() error {
		if b.metric(t, syncs) == count {
			return fmt.Errorf("still %v syncs", count)
		}
		return nil
	})
	b.setEndpoints(t, "stays", others...)
	b.awaitEndpoints(t, b.node.IPv4.String(), others)
	restore()
	b.setEndpoints(t, "stays", endpoints...)
	b.awaitEndpoints(t, b.node.IPv4.String(), endpoints)
	if before := b.setNodeAddress(t, "192.0.2.79"); before != b.node.IPv4.String() {
		t.Errorf("the Node had %s as its address", before)
	}
	t.Cleanup(func() { b.setNodeAddress(t, b.node.IPv4.String()) })
	b.awaitEndpoints(t, "192.0.2.79", endpoints)
	b.awaitEndpoints(t, b.node.IPv4.String(), nil)
}

// TestTheRangesMayChange gives the cluster another range of Services and the node another range of pods
// while the agent runs.
func TestTheRangesMayChange(t *testing.T) {
	b := requireBed(t)
	b.startAgent(t, "--mode=all", "--detect-local-mode=NodeCIDR")
	b.awaitRange(t, ruleset.ServiceRanges, lab.ServiceCIDRv4, true)
	b.awaitRange(t, ruleset.PodSources, b.node.PodCIDRv4.String(), true)

	const services, pods = "10.112.0.0/24", "10.99.1.0/24"
	b.addServiceCIDR(t, "more", services)
	b.awaitRange(t, ruleset.ServiceRanges, services, true)

	before := b.replaceNode(t, func(n *corev1.Node) { n.Spec.PodCIDR, n.Spec.PodCIDRs = pods, []string{pods} })
	t.Cleanup(func() { b.replaceNode(t, func(n *corev1.Node) { n.Spec = before.Spec }) })
	b.awaitRange(t, ruleset.PodSources, pods, true)
	b.awaitRange(t, ruleset.PodSources, b.node.PodCIDRv4.String(), false)
}

func (b *bed) addServiceCIDR(t *testing.T, name, prefix string) {
	t.Helper()
	more := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{prefix}}}
	api := b.Kubernetes.NetworkingV1().ServiceCIDRs()
	if _, err := api.Create(t.Context(), more, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Delete(context.Background(), name, metav1.DeleteOptions{}) })
}

// TestTheZoneMayChange moves the node to another zone while the agent runs: it prefers the pods of that.
func TestTheZoneMayChange(t *testing.T) {
	b := requireBed(t)
	east, west := netip.MustParseAddr("10.244.200.1"), netip.MustParseAddr("10.244.200.2")
	service := b.serviceOf(t, "zones", func(*corev1.Service) {}, east, west)
	slice := sliceOf("zones", []netip.Addr{east, west})
	for i, zone := range []string{"east", "west"} {
		slice.Endpoints[i].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
	}
	if _, err := b.Kubernetes.DiscoveryV1().EndpointSlices("default").Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.startAgent(t)
	b.awaitEndpoints(t, service.Spec.ClusterIP, []netip.Addr{east, west})
	t.Cleanup(func() { b.setZone(t, "") })
	b.setZone(t, "west")
	b.awaitEndpoints(t, service.Spec.ClusterIP, []netip.Addr{west})
	b.setZone(t, "east")
	b.awaitEndpoints(t, service.Spec.ClusterIP, []netip.Addr{east})
}

// TestANodeChangeThatDoesNotMatterWritesNothing: a kubelet and others write the Node all the time.
func TestANodeChangeThatDoesNotMatterWritesNothing(t *testing.T) {
	b := requireBed(t)
	endpoints := []netip.Addr{netip.MustParseAddr("10.244.200.1")}
	b.startAgent(t)
	service := b.serviceOf(t, "still", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, endpoints...)
	b.awaitEndpoints(t, service.Spec.ClusterIP, endpoints)
	b.awaitEndpoints(t, b.node.IPv4.String(), endpoints)

	const syncs = `servicegroup_agent_sync_duration_seconds_count{kind="change"}`
	generation, written := b.generation(t), b.elementsWritten(t)
	for _, change := range []struct{ patch, subresource string }{
		{`{"metadata":{"labels":{"example.com/team":"a"}}}`, ""},
		{`{"metadata":{"annotations":{"example.com/note":"a"}}}`, ""},
		{`{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2030-01-01T00:00:00Z"}]}}`, "status"},
		{`{"status":{"conditions":[{"type":"DiskPressure","status":"True"}]}}`, "status"},
	} {
		before := b.metric(t, syncs)
		b.patchNode(t, change.patch, change.subresource)
		eventually(t, "the agent sees the Node", func() error {
			if b.metric(t, syncs) == before {
				return fmt.Errorf("it does not after %s", change.patch)
			}
			return nil
		})
	}
	if after := b.elementsWritten(t); after != written || b.generation(t) != generation {
		t.Errorf("written before and after: %q and %q elements, in %d transactions", written, after, b.generation(t)-generation)
	}
	before := b.setNodeAddress(t, "192.0.2.78")
	t.Cleanup(func() { b.setNodeAddress(t, before) })
	b.awaitEndpoints(t, "192.0.2.78", endpoints)
	if transactions := b.generation(t) - generation; transactions != 1 {
		t.Errorf("another address took %d transactions, want one", transactions)
	}
}

func (b *bed) setZone(t *testing.T, zone string) {
	t.Helper()
	b.patchNode(t, fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, corev1.LabelTopologyZone, zone), "")
}

func (b *bed) patchNode(t *testing.T, patch, subresource string) {
	t.Helper()
	nodes := b.Kubernetes.CoreV1().Nodes()
	if _, err := nodes.Patch(context.Background(), b.node.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, subresource); err != nil {
		t.Fatal(err)
	}
}

// replaceNode deletes the Node and makes it anew, since the range of its pods cannot be changed. It returns
// what was there before.
func (b *bed) replaceNode(t *testing.T, change func(*corev1.Node)) *corev1.Node {
	t.Helper()
	nodes := b.Kubernetes.CoreV1().Nodes()
	before, err := nodes.Get(context.Background(), b.node.Name, getOptions)
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes.Delete(context.Background(), b.node.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	after := before.DeepCopy()
	after.ResourceVersion, after.UID = "", ""
	change(after)
	created, err := nodes.Create(context.Background(), after, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	created.Status = before.Status
	if _, err := nodes.UpdateStatus(context.Background(), created, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	return before
}

// awaitRange waits until a set of ranges has one, or has it no more.
func (b *bed) awaitRange(t *testing.T, m ruleset.Map, prefix string, want bool) {
	t.Helper()
	eventually(t, "waiting for ranges", func() error {
		elements, err := b.tables.Elements()
		if err != nil {
			return err // there are no tables yet
		}
		has := slices.ContainsFunc(elements, func(e ruleset.Element) bool { return e.Map == m && e.Prefix.String() == prefix })
		if has != want {
			return fmt.Errorf("%s has %s: %v, want %v", m, prefix, has, want)
		}
		return nil
	})
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
