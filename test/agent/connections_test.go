package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// connection is a row of "agent connections -o json": the names are what other programs read.
type connection struct {
	Namespace   string `json:"namespace"`
	Service     string `json:"service"`
	Port        string `json:"port"`
	PortNumber  int    `json:"portNumber"`
	Protocol    string `json:"protocol"`
	Group       string `json:"group"`
	Endpoint    string `json:"endpoint"`
	Connections int    `json:"connections"`
}

// counted is a Service with two groups of pods whose connections are counted.
type counted struct {
	*bed
	agent   *lab.Process
	service *corev1.Service
	// made are the connections made, by the name of the pod that answered, or "left" and its group.
	made map[string]int
}

// group makes these pods the endpoints of one group.
func (c *counted) group(t *testing.T, group string, pods ...*lab.Pod) {
	t.Helper()
	slice := sliceOf(c.service.Name, addresses(pods))
	slice.Name += "-" + group
	slice.Labels[v1alpha1.LabelGroup] = group
	api := c.Kubernetes.DiscoveryV1().EndpointSlices("default")
	if _, err := api.Update(t.Context(), slice, metav1.UpdateOptions{}); err == nil {
		return
	}
	if _, err := api.Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Delete(context.Background(), slice.Name, metav1.DeleteOptions{}) })
}

// connect makes connections to the virtual IP and to the NodePort.
func (c *counted) connect(t *testing.T, n int) {
	t.Helper()
	for from, address := range map[*lab.Host]string{
		c.node.Host: net.JoinHostPort(c.service.Spec.ClusterIP, "80"),
		c.client:    net.JoinHostPort(c.node.IPv4.String(), fmt.Sprint(c.service.Spec.Ports[0].NodePort)),
	} {
		tally := from.Tally(t.Context(), "tcp", address, n)
		if tally.Failed > 0 {
			t.Fatalf("%d connections failed: %v", tally.Failed, tally.Errors)
		}
		for pod, answers := range tally.Answers {
			c.made[pod] += answers
		}
	}
}

// counts asks the agent, and returns the connections by the name of the pod.
func (c *counted) counts(t *testing.T, pods []*lab.Pod) map[string]int {
	t.Helper()
	out, err := c.node.Output(t.Context(), c.agent.Path(), "agent", "connections", "-o", "json")
	var rows []connection
	if err == nil {
		err = json.Unmarshal([]byte(out), &rows)
	}
	if err != nil {
		t.Fatalf("agent connections: %v\n%s", err, out)
	}
	counts := map[string]int{}
	for _, row := range rows {
		if row.Namespace != "default" || row.Service != c.service.Name || row.Port != "http" || row.PortNumber != 80 || row.Protocol != "TCP" {
			t.Errorf("strange row %+v", row)
		}
		name := "left " + row.Group
		for i, pod := range pods {
			if row.Endpoint == netip.AddrPortFrom(pod.IPv4, 80).String() {
				if name = pod.PodName; row.Group != groupOf(i) {
					t.Errorf("%s is in group %q, want %q", name, row.Group, groupOf(i))
				}
			}
		}
		if row.Connections > 0 {
			counts[name] += row.Connections
		}
	}
	return counts
}

// groupOf says which group each of the pods is in: the third in the second, the others in the first.
func groupOf(pod int) string {
	if pod == 2 {
		return "green"
	}
	return "blue"
}

// total reads the metric, by group.
func (c *counted) total(t *testing.T) map[string]int {
	t.Helper()
	totals := map[string]int{}
	for line := range strings.Lines(c.scrape(t)) {
		for _, group := range []string{"blue", "green"} {
			series := fmt.Sprintf(`servicegroup_agent_connections_total{group=%q,namespace="default",port="http",servicegroup="counted"} `, group)
			if text, found := strings.CutPrefix(line, series); found {
				var n float64
				_, _ = fmt.Sscan(text, &n)
				totals[group] = int(n)
			}
		}
	}
	return totals
}

func TestConnectionsAreCounted(t *testing.T) {
	b := requireBed(t)
	pods := b.pods(t, "counted", 4)
	c := &counted{bed: b, made: map[string]int{}}
	c.service = b.serviceOf(t, "counted", func(s *corev1.Service) {
		s.Labels[v1alpha1.LabelServiceGroup] = "counted"
		s.Spec.Type = corev1.ServiceTypeNodePort
	})
	c.group(t, "blue", pods[0], pods[1])
	c.group(t, "green", pods[2])
	c.agent = b.startAgent(t, "--connection-counters")
	compare := func(when string) {
		t.Helper()
		if got := c.counts(t, pods); !maps.Equal(got, c.made) {
			t.Errorf("%s: counted %v, made %v", when, got, c.made)
		}
	}
	inGroup := func(made map[string]int) map[string]int {
		blue := made[pods[0].PodName] + made[pods[1].PodName] + made[pods[3].PodName] + made["left blue"]
		return map[string]int{"blue": blue, "green": made[pods[2].PodName]}
	}
	c.connect(t, 60)
	compare("at first")

	// The first endpoint leaves, so that the last one takes its slot.
	c.group(t, "blue", pods[1])
	b.awaitEndpoints(t, c.service.Spec.ClusterIP, addresses(pods[1:3]))
	c.made["left blue"] = c.made[pods[0].PodName]
	delete(c.made, pods[0].PodName)
	c.connect(t, 30)
	compare("after an endpoint left")
	c.group(t, "blue", pods[1], pods[0], pods[3])
	b.awaitEndpoints(t, c.service.Spec.ClusterIP, addresses(pods))
	c.connect(t, 60)
	compare("after it came back and another came")
	if got, want := c.total(t), inGroup(c.made); !maps.Equal(got, want) {
		t.Errorf("the metric says %v, made were %v", got, want)
	}

	// A restarted agent has the counters of the kernel; its metric begins anew.
	if err := c.agent.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-c.agent.Ended()
	c.agent = b.startAgent(t, "--connection-counters")
	if written := b.elementsWritten(t); written != "0 0" {
		t.Errorf("the restarted agent wrote %s elements, want 0 0", written)
	}
	delete(c.made, "left blue")
	compare("after a restart")
	before := maps.Clone(c.made)
	c.connect(t, 30)
	compare("after connections after a restart")
	want := map[string]int{}
	for group, n := range inGroup(c.made) {
		want[group] = n - inGroup(before)[group]
	}
	if got := c.total(t); !maps.Equal(got, want) {
		t.Errorf("after a restart the metric says %v, made were %v", got, want)
	}
}

// TestCountingIsTurnedOnAndOff restarts the agent with and without the flag, for which the tables are laid out
// in two ways: connections go on, and session affinity leads the client to its pod.
func TestCountingIsTurnedOnAndOff(t *testing.T) {
	b := requireBed(t)
	pods := b.pods(t, "toggled", 5)
	service := b.serviceOf(t, "toggled", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.SessionAffinity = corev1.ServiceTypeNodePort, corev1.ServiceAffinityClientIP
	}, addresses(pods)...)
	address := net.JoinHostPort(b.node.IPv4.String(), fmt.Sprint(service.Spec.Ports[0].NodePort))
	agent := b.startAgent(t)
	connections := b.openConnections(t, address, 10)
	first, err := b.client.Ask(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--connection-counters"}, {}, {"--connection-counters"}} {
		if err := agent.Stop(); err != nil {
			t.Fatal(err)
		}
		agent = b.startAgent(t, args...)
		for i, conn := range connections {
			if err := request(conn); err != nil {
				t.Fatalf("with %q, connection %d did not go on: %v", args, i, err)
			}
		}
		if who, err := b.client.Ask(t.Context(), "tcp", address); err != nil || who != first {
			t.Errorf("with %q, %q answers (%v), before it was %q", args, who, err, first)
		}
		out, err := b.node.Output(t.Context(), agent.Path(), "agent", "connections")
		if counting := len(args) > 0; counting != (err == nil) || !counting && !strings.Contains(err.Error()+out, "--connection-counters") {
			t.Errorf("with %q, agent connections: %v\n%s", args, err, out)
		}
		if got := sorted(b.programmed(t, service.Spec.ClusterIP)); !slices.Equal(got, sorted(addresses(pods))) {
			t.Errorf("with %q the endpoints are %v", args, got)
		}
	}
}
