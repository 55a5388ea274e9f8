package agent

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

func TestMain(m *testing.M) { lab.Main(m) }

// bound is how long anything may take before a test gives up on it.
const bound = 20 * time.Second

// bed is a cluster of one node whose agent the tests start and stop.
type bed struct {
	*lab.Lab
	node   *lab.Node
	client *lab.Host
	tables *nft.Tables
}

var theBed = sync.OnceValues(func() (*bed, error) {
	l, err := lab.Start(context.Background(), lab.Options{Nodes: 1})
	if err != nil {
		return nil, err
	}
	b := &bed{Lab: l, node: l.Nodes()[0]}
	if b.client, err = l.Client("client"); err != nil {
		return nil, err
	}
	return b, b.node.Do(func() (err error) { b.tables, err = nft.Open(nft.Layout{}); return err })
})

func requireBed(t *testing.T) *bed {
	t.Helper()
	lab.Require(t)
	b, err := theBed()
	if err != nil {
		t.Fatalf("starting the lab: %v", err)
	}
	return b
}

// startAgent starts the agent and stops it with the test.
func (b *bed) startAgent(t *testing.T, args ...string) *lab.Process {
	t.Helper()
	process, err := b.StartAgent(t.Context(), b.node, args...)
	if err != nil {
		t.Fatalf("starting the agent: %v", err)
	}
	t.Cleanup(func() { _ = process.Stop() })
	return process
}

// serviceOf creates a Service of the agent's with port 80 in front of these addresses.
func (b *bed) serviceOf(t *testing.T, name string, change func(*corev1.Service), endpoints ...netip.Addr) *corev1.Service {
	t.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labelsOf(name, v1alpha1.ServiceProxyName)},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	change(service)
	created, err := b.Kubernetes.CoreV1().Services("default").Create(t.Context(), service, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = b.Kubernetes.CoreV1().Services("default").Delete(context.Background(), name, metav1.DeleteOptions{})
		_ = b.Kubernetes.DiscoveryV1().EndpointSlices("default").Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	slice := sliceOf(name, endpoints)
	if _, err := b.Kubernetes.DiscoveryV1().EndpointSlices("default").Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return created
}

// labelsOf are the labels of a Service that the operator generated, and of another proxy's with its name.
func labelsOf(name, proxyName string) map[string]string {
	out := map[string]string{v1alpha1.LabelServiceGroup: name}
	if proxyName != "" {
		out[v1alpha1.LabelServiceProxyName] = proxyName
	}
	return out
}

var getOptions metav1.GetOptions

// labelSlice gives the slice of a Service the label of its proxy; "" takes it away.
func (b *bed) labelSlice(t *testing.T, name, proxyName string) {
	t.Helper()
	api := b.Kubernetes.DiscoveryV1().EndpointSlices("default")
	slice, err := api.Get(t.Context(), name, getOptions)
	if err != nil {
		t.Fatal(err)
	}
	if slice.Labels[v1alpha1.LabelServiceProxyName] = proxyName; proxyName == "" {
		delete(slice.Labels, v1alpha1.LabelServiceProxyName)
	}
	if _, err := api.Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// setEndpoints replaces the endpoints of a Service.
func (b *bed) setEndpoints(t *testing.T, name string, endpoints ...netip.Addr) {
	t.Helper()
	if _, err := b.Kubernetes.DiscoveryV1().EndpointSlices("default").Update(t.Context(), sliceOf(name, endpoints), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func sliceOf(service string, endpoints []netip.Addr) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: service, Labels: map[string]string{
			discoveryv1.LabelServiceName: service, v1alpha1.LabelServiceProxyName: v1alpha1.ServiceProxyName,
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](80)}},
	}
	for _, addr := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{addr.String()}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
		})
	}
	return slice
}

// pods runs n pods and returns them.
func (b *bed) pods(t *testing.T, prefix string, n int) []*lab.Pod {
	t.Helper()
	pods, err := b.RunPods(t.Context(), lab.PodSpec{Name: prefix}, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.DeletePods(context.Background(), pods...) })
	return pods
}

func addresses(pods []*lab.Pod) []netip.Addr {
	var out []netip.Addr
	for _, pod := range pods {
		out = append(out, pod.IPv4)
	}
	return out
}

// programmed returns the endpoints that the kernel holds for a virtual IP, in slot order. The kernel lists
// elements while it commits others, so a slot may be missing for a moment.
func (b *bed) programmed(t *testing.T, vip string) []netip.Addr {
	t.Helper()
	var out []netip.Addr
	eventually(t, "slots without a hole", func() error {
		out = nil
		elements, _ := b.tables.Elements() // none where there are no tables yet, or none any more
		for _, e := range elements {
			if e.Map == ruleset.Endpoints && e.Key.Addr.String() == vip {
				if int(e.Slot) != len(out) {
					return fmt.Errorf("the slots of %s have a hole before %d", vip, e.Slot)
				}
				out = append(out, e.Endpoint.Addr)
			}
		}
		return nil
	})
	return out
}

// scrape reads the agent's metrics.
func (b *bed) scrape(t *testing.T) string {
	t.Helper()
	return b.get(t, "10249/metrics")
}

// get reads from a port of the node's loopback address.
func (b *bed) get(t *testing.T, portAndPath string) string {
	t.Helper()
	response, err := b.node.HTTPClient(false).Get("http://127.0.0.1:" + portAndPath)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func sorted(list []netip.Addr) []netip.Addr {
	out := slices.Clone(list)
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// eventually polls until check returns no complaint.
func eventually(t *testing.T, what string, check func() error) time.Duration {
	t.Helper()
	started := time.Now()
	if err := lab.Await(t.Context(), bound, func(context.Context) error { return check() }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return time.Since(started)
}

func (b *bed) awaitEndpoints(t *testing.T, vip string, want []netip.Addr) {
	t.Helper()
	eventually(t, "waiting for endpoints", func() error {
		if got := sorted(b.programmed(t, vip)); !slices.Equal(got, sorted(want)) {
			return fmt.Errorf("%s leads to %v, want %v", vip, got, want)
		}
		return nil
	})
}
