package stories

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestS15BesideKubeProxy: kube-proxy on every node, in mode iptables and in mode nftables. Plain
// Services go on working, ours work, and neither side changes a line of the other's rules.
func TestS15BesideKubeProxy(t *testing.T) {
	s := newScene(t, "s15")
	s.startKubeProxy(s.Nodes()[0], "iptables")
	s.startKubeProxy(s.Nodes()[1], "nftables")
	plainPods := s.run("plain", 2, map[string]string{"app": "plain"})
	ourPods := s.run("web", 3, map[string]string{"app": "my-web"})
	s.applyText("{apiVersion: v1, kind: Service, metadata: {name: plain}, spec: {type: NodePort, selector: {app: plain}, ports: [{port: 80}]}}")
	visitors := map[*lab.Node]*lab.Pod{}
	for _, node := range s.Nodes()[:2] {
		visitors[node] = s.runOne(lab.PodSpec{Name: "visitor-" + node.Name, Node: node.Name})
	}
	// works checks a Service from outside and inside on both nodes.
	works := func(service *corev1.Service, pods []*lab.Pod) {
		t.Helper()
		for node, visitor := range visitors {
			for _, to := range []target{
				inside(visitor, service.Spec.ClusterIP, 80),
				tcp(s.client, lab.HostPort(node.IPv4, service.Spec.Ports[0].NodePort)),
			} {
				s.awaitAnswers(to, pods)
			}
		}
	}
	plain := s.service("plain")
	works(plain, plainPods)

	// A ServiceGroup comes, changes and goes: kube-proxy's rules stay as they are.
	theirs := s.listings("kube-proxy's", kubeProxysRules)
	s.apply("nodeport.yaml")
	ours := s.service("my-web")
	works(ours, ourPods)
	for _, to := range s.everyNode(ours.Spec.Ports[0].NodePort, corev1.IPv4Protocol) {
		s.awaitAnswers(to, ourPods)
		s.evenly(to, ourPods)
	}
	works(plain, plainPods)
	more := s.run("more", 1, map[string]string{"app": "my-web"})
	works(ours, append(ourPods, more...))
	s.sameListings("a ServiceGroup", theirs, s.listings("kube-proxy's", kubeProxysRules))

	s.kubectl("delete", "svcg", "my-web", "--cascade=foreground")
	works(plain, plainPods)
	s.sameListings("a deleted ServiceGroup", theirs, s.listings("kube-proxy's", kubeProxysRules))

	// A plain Service comes and goes: ours stay. (This comes last because kube-proxy takes its time to
	// remove the chains of a Service that is gone.)
	s.apply("nodeport.yaml")
	ours = s.service("my-web")
	works(ours, append(ourPods, more...))
	mine := s.listings("ours", ourRules)
	s.applyText("{apiVersion: v1, kind: Service, metadata: {name: second}, spec: {type: NodePort, selector: {app: plain}, ports: [{port: 80}]}}")
	works(s.service("second"), plainPods)
	s.kubectl("delete", "service", "second")
	works(ours, append(ourPods, more...))
	s.sameListings("a plain Service", mine, s.listings("ours", ourRules))

	// A ServiceGroup that is left to the cluster's own proxy is served by it, and not by the agents.
	s.applyText(`{apiVersion: net.servicegroup.dev/v1alpha1, kind: ServiceGroup, metadata: {name: left}, spec: {
		type: NodePort, dataplane: Cluster,
		groups: [{name: plain, selector: {matchLabels: {app: plain}}}], ports: [{port: 80}]}}`)
	works(s.service("left"), plainPods)
	s.sameListings("a ServiceGroup of the cluster's proxy", mine, s.listings("ours", ourRules))
}

// startKubeProxy starts kube-proxy for the length of the test; its rules go with it.
func (s *scene) startKubeProxy(node *lab.Node, mode string) {
	s.t.Helper()
	proxy, err := s.StartKubeProxy(s.t.Context(), node, mode)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		err := proxy.Stop()
		_, cleaned := node.Output(context.Background(), proxy.Path(), "--cleanup")
		if err := errors.Join(err, cleaned); err != nil {
			s.t.Error(err)
		}
	})
}

// listings are the rules of one side on every node, by node.
func (s *scene) listings(whose string, list func(ctx context.Context, node *lab.Node) (string, error)) map[string]string {
	s.t.Helper()
	out := map[string]string{}
	for _, node := range s.Nodes() {
		listing, err := list(s.t.Context(), node)
		if err != nil {
			s.t.Fatal(err)
		}
		out[node.Name] = listing
	}
	if out["node1"] == "" || out["node2"] == "" {
		s.t.Fatalf("there are no rules of %s to compare", whose)
	}
	return out
}

func (s *scene) sameListings(what string, before, after map[string]string) {
	s.t.Helper()
	for node, listing := range before {
		if differing := differingLines(listing, after[node]); differing != "" {
			s.t.Errorf("%s changed the rules of others on %s:%s", what, node, differing)
		}
	}
}

// differingLines are the lines that only one of two listings has. Their order does not count: kube-proxy
// in mode iptables writes its chains and rules in another order every time it syncs.
func differingLines(before, after string) string {
	count := map[string]int{}
	for line := range strings.Lines(before) {
		count[line]--
	}
	for line := range strings.Lines(after) {
		count[line]++
	}
	var out strings.Builder
	for _, line := range slices.Sorted(maps.Keys(count)) {
		if n := count[line]; n != 0 {
			fmt.Fprintf(&out, "\n%+d %s", n, strings.TrimSuffix(line, "\n"))
		}
	}
	return out.String()
}

// changing is what differs between two listings of the same rules.
var changing = regexp.MustCompile(`counter packets \d+ bytes \d+|(?m)^#.*$`)

// kubeProxysRules are all rules on the node outside our tables.
func kubeProxysRules(ctx context.Context, node *lab.Node) (string, error) {
	tables, err := node.Output(ctx, "nft", "list", "tables")
	if err != nil {
		return "", err
	}
	all := ""
	for table := range strings.Lines(tables) {
		if strings.HasSuffix(strings.TrimSpace(table), " servicegroup") {
			continue
		}
		listing, err := node.Output(ctx, "nft", append([]string{"-s", "list"}, strings.Fields(table)...)...)
		if err != nil {
			return "", err
		}
		all += listing
	}
	return changing.ReplaceAllString(all, ""), nil
}

// ourRules are the rules of the agent, without what packets put there.
func ourRules(ctx context.Context, node *lab.Node) (string, error) {
	v4, err := node.Output(ctx, "nft", "-s", "list", "table", "ip", "servicegroup")
	if err != nil {
		return "", err
	}
	v6, err := node.Output(ctx, "nft", "-s", "list", "table", "ip6", "servicegroup")
	return changing.ReplaceAllString(v4+v6, ""), err
}
