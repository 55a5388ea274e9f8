package agent

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// churn edits a few Services, and slices that they hand to each other, faster than the agent programs them.
type churn struct {
	*bed
	t      *testing.T
	random *rand.Rand
	names  []string
}

func (c *churn) service() (name string, service *corev1.Service) {
	c.t.Helper()
	name = c.names[c.random.IntN(len(c.names))]
	service, err := c.Kubernetes.CoreV1().Services("default").Get(c.t.Context(), name, getOptions)
	if err != nil {
		c.t.Fatal(err)
	}
	return name, service
}

// recreate makes another Service of the same name, with another virtual IP.
func (c *churn) recreate() {
	c.t.Helper()
	name, before := c.service()
	api := c.Kubernetes.CoreV1().Services("default")
	if err := api.Delete(c.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
	again := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: before.Labels}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
	}}
	if _, err := api.Create(c.t.Context(), again, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// handOver gives a Service to another proxy, or takes it back.
func (c *churn) handOver() {
	c.t.Helper()
	_, service := c.service()
	if _, ours := service.Labels[v1alpha1.LabelServiceProxyName]; ours {
		delete(service.Labels, v1alpha1.LabelServiceProxyName)
	} else {
		service.Labels[v1alpha1.LabelServiceProxyName] = v1alpha1.ServiceProxyName
	}
	if _, err := c.Kubernetes.CoreV1().Services("default").Update(c.t.Context(), service, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// moveSlice changes the endpoints of a slice and whose it is.
func (c *churn) moveSlice() {
	c.t.Helper()
	own, to := c.names[c.random.IntN(len(c.names))], c.names[c.random.IntN(len(c.names))]
	var endpoints []netip.Addr
	for i := range c.random.IntN(6) {
		endpoints = append(endpoints, netip.AddrFrom4([4]byte{10, 244, byte(200 + i), byte(1 + c.random.IntN(9))}))
	}
	slice := sliceOf(to, endpoints)
	slice.Name = own
	if _, err := c.Kubernetes.DiscoveryV1().EndpointSlices("default").Update(c.t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// disturb changes the tables, maybe in the middle of one of the agent's transactions.
func (c *churn) disturb() {
	c.t.Helper()
	c.nft(c.t, []string{
		"flush ruleset", "table ip servicegroup; delete table ip servicegroup", "table ip6 servicegroup; delete table ip6 servicegroup",
	}[c.random.IntN(3)])
}

// want is what the API server's objects should lead to: the endpoints of each virtual IP.
func (c *churn) want() map[netip.Addr][]netip.Addr {
	c.t.Helper()
	all, err := c.Kubernetes.CoreV1().Services("default").List(c.t.Context(), metav1.ListOptions{LabelSelector: v1alpha1.LabelServiceProxyName})
	if err != nil {
		c.t.Fatal(err)
	}
	out := map[netip.Addr][]netip.Addr{}
	for i := range all.Items {
		list, err := c.Kubernetes.DiscoveryV1().EndpointSlices("default").List(c.t.Context(), metav1.ListOptions{
			LabelSelector: discoveryv1.LabelServiceName + "=" + all.Items[i].Name,
		})
		if err != nil {
			c.t.Fatal(err)
		}
		endpoints := []netip.Addr{}
		for j := range list.Items {
			for _, endpoint := range list.Items[j].Endpoints {
				endpoints = append(endpoints, netip.MustParseAddr(endpoint.Addresses[0]))
			}
		}
		out[netip.MustParseAddr(all.Items[i].Spec.ClusterIP)] = slices.Compact(sorted(endpoints))
	}
	return out
}

// requireProgrammed waits until the kernel has that, and no other virtual IP.
func (c *churn) requireProgrammed(want map[netip.Addr][]netip.Addr) {
	c.t.Helper()
	eventually(c.t, "waiting for what the API server says", func() error {
		elements, err := c.tables.Elements()
		if err != nil {
			return err
		}
		got := map[netip.Addr][]netip.Addr{}
		for _, e := range elements {
			if e.Map == ruleset.VirtualIPs {
				got[e.Key.Addr] = []netip.Addr{}
			}
		}
		for _, e := range elements {
			if _, virtual := got[e.Key.Addr]; virtual && e.Map == ruleset.Endpoints {
				got[e.Key.Addr] = append(got[e.Key.Addr], e.Endpoint.Addr)
			}
		}
		for vip, endpoints := range got {
			if !slices.Equal(sorted(endpoints), want[vip]) {
				return fmt.Errorf("%s leads to %v, want %v", vip, endpoints, want[vip])
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("the virtual IPs are %v, want %v", got, want)
		}
		return nil
	})
}

// TestChurnEndsInWhatTheAPIServerSays: Services are created anew under their names, change hands with their slices, and
// the tables and the API server go away, all at once.
func TestChurnEndsInWhatTheAPIServerSays(t *testing.T) {
	b := requireBed(t)
	agent := b.startAgent(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &churn{bed: b, t: t, random: rand.New(rand.NewPCG(seed, 0))}
	for i := range 4 {
		c.names = append(c.names, fmt.Sprintf("churn-%d", i))
		b.serviceOf(t, c.names[i], func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })
	}
	const rounds = 60
	for round := range rounds {
		for range 1 + c.random.IntN(8) {
			// The tables go less often than the agent needs to put them right.
			if n := c.random.IntN(40); n == 0 {
				c.disturb()
			} else {
				[]func(){c.recreate, c.handOver, c.moveSlice, c.moveSlice}[n%4]()
			}
		}
		if round == rounds/2 {
			// The agent lists everything anew.
			if err := b.ControlPlane.StopAPIServer(); err != nil {
				t.Fatal(err)
			}
			c.disturb()
			if err := b.ControlPlane.StartAPIServer(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.recreate()
		}
		c.requireProgrammed(c.want())
	}
	if dump, err := b.node.Output(t.Context(), agent.Path(), "agent", "dump", "--all"); err != nil || !strings.Contains(dump, "difference: none") {
		t.Errorf("agent dump: %v\n%s", err, dump)
	}
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	b.startAgent(t)
	if written := b.elementsWritten(t); written != "0 0" {
		t.Errorf("a fresh agent wrote %s elements, want 0 0", written)
	}
}
