package peer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard()) // that of the client
	lab.Main(m)
}

// TestSameAnswersAsKubeProxy asks about random Services from pods, from the node and from outside, first
// with kube-proxy on the node and then with the agent in its place.
func TestSameAnswersAsKubeProxy(t *testing.T) {
	lab.Require(t)
	seed, services := number(t, "SERVICEGROUP_PEER_SEED", 1), number(t, "SERVICEGROUP_PEER_SERVICES", 20)
	t.Logf("SERVICEGROUP_PEER_SEED=%d SERVICEGROUP_PEER_SERVICES=%d", seed, services)
	c := newCluster(t, seed)
	var questions []question
	checks := map[string]string{}
	for i := range services {
		service := c.createService(t, i+1)
		questions = append(questions, c.questions(service)...)
		if port := service.Spec.HealthCheckNodePort; port != 0 {
			// kube-proxy answers at addresses of the Service's families only.
			ip := c.node.IPv4
			if service.Spec.IPFamilies[0] == corev1.IPv6Protocol {
				ip = c.node.IPv6
			}
			checks[service.Name] = "http://" + lab.HostPort(ip, port) + "/"
		}
	}
	for _, args := range [][]string{nil, {"--masquerade-all"}, {"--detect-local-mode=NodeCIDR"}} {
		t.Run(strings.Join(append([]string{"nftables"}, args...), " "), func(t *testing.T) {
			c.compare(t, questions, checks, args)
		})
	}
}

// compare has both proxies serve with these arguments and finds what they do differently.
func (c *cluster) compare(t *testing.T, questions []question, checks map[string]string, args []string) {
	t.Helper()
	theirs, theirChecks := c.withKubeProxy(t, questions, checks, args, tries)
	ours, ourChecks := c.withAgent(t, questions, checks, args, tries)
	differs := func(q question) bool { return ours[q] != theirs[q] }
	if again := slices.DeleteFunc(slices.Clone(questions), func(q question) bool { return !differs(q) }); len(again) > 0 {
		t.Logf("asking again: %v", again)
		answers, _ := c.withKubeProxy(t, again, nil, args, manyTries)
		maps.Copy(theirs, answers)
		answers, _ = c.withAgent(t, again, nil, args, manyTries)
		maps.Copy(ours, answers)
	}
	kinds := map[string]int{}
	for _, q := range questions {
		if differs(q) {
			t.Errorf("%v\n  kube-proxy: %s\n  the agent:  %s", q, theirs[q], ours[q])
		}
		switch kind := strings.TrimPrefix(theirs[q], "one: true, "); kind {
		case refused, silence:
			kinds[kind]++
		default:
			kinds["answered"]++
		}
	}
	for name, theirs := range theirChecks {
		if ourChecks[name] != theirs {
			t.Errorf("%s: health check\n  kube-proxy: %s\n  the agent:  %s", name, theirs, ourChecks[name])
		}
	}
	t.Logf("%d questions: %v; %d health checks", len(questions), kinds, len(checks))
	for _, kind := range []string{refused, silence, "answered"} {
		if kinds[kind] < 10 {
			t.Errorf("only %d of %d questions are %s: that says little", kinds[kind], len(questions), kind)
		}
	}
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(otherwise)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// startLab starts a dual-stack lab with zones, for the length of the test.
func startLab(t *testing.T, options lab.Options) *lab.Lab {
	t.Helper()
	options.Zones, options.DualStack = zones, true
	l, err := lab.Start(t.Context(), options)
	if err != nil {
		t.Fatalf("starting the lab: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func newCluster(t *testing.T, seed int) *cluster {
	t.Helper()
	l := startLab(t, lab.Options{Nodes: 3})
	c := &cluster{Lab: l, node: l.Nodes()[0], random: rand.New(rand.NewPCG(uint64(seed), 0))} //nolint:gosec // tests are to be repeatable
	var ports []lab.Port
	for _, port := range podPorts {
		ports = append(ports, lab.TCP(port), lab.UDP(port))
	}
	pod := func(node *lab.Node, name string, ports ...lab.Port) *lab.Workload {
		workload, err := node.AddPod(name, ports...)
		if err != nil {
			t.Fatal(err)
		}
		return workload
	}
	for i := range 3 {
		c.pods = append(c.pods, pod(l.Nodes()[i/2], fmt.Sprintf("pod-%d", i), ports...))
	}
	outside, err := l.Network.AddClient("outside", lab.ClientOptions{VIPsVia: c.node})
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32"} {
		if err := outside.AddRoute(netip.MustParsePrefix(prefix), c.node); err != nil {
			t.Fatal(err)
		}
	}
	far := pod(l.Nodes()[2], "far-visitor")
	for _, a := range far.Addresses() { // else answers that are not masqueraded would not pass the node that is asked
		if err := l.Nodes()[1].AddRoute(netip.PrefixFrom(a, a.BitLen()), c.node); err != nil {
			t.Fatal(err)
		}
	}
	c.sources = []source{
		{pod(c.node, "visitor").Host, "a pod", false},
		{c.node.Host, "the node", false},
		{outside, "outside", false},
		{c.pods[0].Host, "an endpoint", false},
		{far.Host, "another node's pod", true},
	}
	return c
}

// withKubeProxy asks while kube-proxy serves, and removes what it leaves.
func (c *cluster) withKubeProxy(t *testing.T, questions []question, checks map[string]string, args []string, tries int) (answers map[question]string, health map[string]string) {
	t.Helper()
	proxy, err := c.StartKubeProxy(t.Context(), c.node, "nftables", args...)
	if err != nil {
		t.Fatal(err)
	}
	// It calls itself healthy before its first sync, which programs everything that there is of a family.
	if err := lab.Await(t.Context(), time.Minute, func(ctx context.Context) error {
		v4, err := c.node.Output(ctx, "nft", "list", "table", "ip", "kube-proxy")
		v6, err6 := c.node.Output(ctx, "nft", "list", "table", "ip6", "kube-proxy")
		for _, ip := range c.virtualIPs {
			if !strings.Contains(v4+v6, ip) {
				err = errors.Join(err, fmt.Errorf("kube-proxy has not programmed %s", ip))
			}
		}
		return errors.Join(err, err6)
	}); err != nil {
		t.Fatal(err)
	}
	answers, health = c.ask(t, questions, tries), c.askChecks(t, checks)
	err = proxy.Stop()
	_, cleaned := c.node.Output(t.Context(), proxy.Path(), "--cleanup")
	if err := errors.Join(err, cleaned, c.forgetConnections()); err != nil {
		t.Fatal(err)
	}
	return answers, health
}

func (c *cluster) withAgent(t *testing.T, questions []question, checks map[string]string, args []string, tries int) (answers map[question]string, health map[string]string) {
	t.Helper()
	agent, err := c.StartAgent(t.Context(), c.node, append([]string{"--mode=all"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	answers, health = c.ask(t, questions, tries), c.askChecks(t, checks)
	err = agent.Stop()
	_, cleaned := c.node.Output(t.Context(), agent.Path(), "agent", "cleanup")
	if err := errors.Join(err, cleaned, c.forgetConnections()); err != nil {
		t.Fatal(err)
	}
	return answers, health
}

// forgetConnections makes the node treat every packet as that of a new connection.
func (c *cluster) forgetConnections() error {
	return c.node.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
}

// askChecks asks as a load balancer does whether the node has endpoints.
func (c *cluster) askChecks(t *testing.T, checks map[string]string) map[string]string {
	t.Helper()
	out := map[string]string{}
	client := c.sources[2].HTTPClient(false)
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		response, err := client.Get(checks[name])
		if err != nil {
			out[name] = err.Error()
			continue
		}
		body, err := io.ReadAll(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			t.Fatal(err)
		}
		var report map[string]any
		if err := json.Unmarshal(body, &report); err != nil {
			t.Fatal(err)
		}
		out[name] = fmt.Sprint(response.StatusCode, " ", report, " weight ", response.Header.Get("X-Load-Balancing-Endpoint-Weight"))
	}
	return out
}
