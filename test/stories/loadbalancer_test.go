package stories

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// loadBalancerAddress is what the load-balancer controller assigns.
var loadBalancerAddress = netip.MustParseAddr("203.0.113.7")

// TestS7LoadBalancer: an address that a load-balancer controller writes into the Service's status is
// served by every node that has a pod, which its health check tells; the pods see the clients' own
// addresses.
func TestS7LoadBalancer(t *testing.T) {
	s := newScene(t, "s7")
	s.apply("loadbalancer.yaml")
	labels := map[string]string{"app": "shop"}
	nodes := s.Nodes()
	pods := map[string][]*lab.Pod{}
	for _, node := range nodes[:2] {
		pods[node.Name] = []*lab.Pod{s.runOne(lab.PodSpec{Name: "shop-" + node.Name, Labels: labels, Node: node.Name})}
	}
	service := s.service("shop")
	s.assignIngress(service)
	await(t, "the ServiceGroup shows the address", func(context.Context) error {
		if shown := s.kubectl("get", "svcg", "shop", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"); shown != loadBalancerAddress.String() {
			return fmt.Errorf("it shows %q", shown)
		}
		return nil
	})

	for i, node := range nodes {
		client := s.routedClient(node)
		to := tcp(client, lab.HostPort(loadBalancerAddress, 80))
		if i < 2 {
			s.awaitAnswers(to, pods[node.Name])
			reply, err := client.AskClient(t.Context(), to.address)
			if err != nil || reply.Client.Addr() != client.IPv4 {
				t.Errorf("%s: the pod sees the client as %s (%v), want %s", to, reply.Client, err, client.IPv4)
			}
		}
		s.awaitHealth(node, service.Spec.HealthCheckNodePort, len(pods[node.Name]))
	}
	// From inside every pod is in reach, on any node.
	visitor := s.runOne(lab.PodSpec{Name: "visitor", Node: nodes[2].Name})
	to := inside(visitor, loadBalancerAddress.String(), 80)
	s.awaitAnswers(to, pods[nodes[0].Name], pods[nodes[1].Name])
	s.evenly(to, pods[nodes[0].Name], pods[nodes[1].Name])

	// With a pod of its own the third node joins in, and with the policy Cluster each serves all.
	pods[nodes[2].Name] = []*lab.Pod{s.runOne(lab.PodSpec{Name: "shop-" + nodes[2].Name, Labels: labels, Node: nodes[2].Name})}
	s.awaitHealth(nodes[2], service.Spec.HealthCheckNodePort, 1)
	s.awaitAnswers(tcp(s.routedClient(nodes[2]), lab.HostPort(loadBalancerAddress, 80)), pods[nodes[2].Name])
	s.kubectl("patch", "svcg", "shop", "--type=merge", "--patch", `{"spec":{"externalTrafficPolicy":"Cluster"}}`)
	for _, node := range nodes {
		to := tcp(s.routedClient(node), lab.HostPort(loadBalancerAddress, 80))
		s.awaitAnswers(to, pods[nodes[0].Name], pods[nodes[1].Name], pods[nodes[2].Name])
		s.evenly(to, pods[nodes[0].Name], pods[nodes[1].Name], pods[nodes[2].Name])
	}

	// Source ranges let one client through; the others get no answer.
	admitted := s.routedClient(nodes[0])
	s.kubectl("patch", "svcg", "shop", "--type=merge", "--patch",
		fmt.Sprintf(`{"spec":{"loadBalancerSourceRanges":["%s/32"]}}`, admitted.IPv4))
	for _, node := range nodes[1:] {
		s.awaitNoAnswer(tcp(s.routedClient(node), lab.HostPort(loadBalancerAddress, 80)))
	}
	s.awaitAnswers(tcp(admitted, lab.HostPort(loadBalancerAddress, 80)),
		pods[nodes[0].Name], pods[nodes[1].Name], pods[nodes[2].Name])
}

// awaitNoAnswer waits until connections to the target get no answer at all.
func (s *scene) awaitNoAnswer(to target) {
	s.t.Helper()
	await(s.t, to.String()+" gets no answer", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		if name, err := to.from.Ask(ctx, to.network, to.address); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("answered by %q, %w", name, err)
		}
		return nil
	})
}

// assignIngress plays the load-balancer controller.
func (s *scene) assignIngress(service *corev1.Service) {
	s.t.Helper()
	patch := fmt.Sprintf(`{"status":{"loadBalancer":{"ingress":[{"ip":%q,"ipMode":"VIP"}]}}}`, loadBalancerAddress.String())
	s.kubectl("patch", "service", service.Name, "--subresource=status", "--type=merge", "--patch", patch)
	updated, err := s.Kubernetes.CoreV1().Services(s.namespace).Get(s.t.Context(), service.Name, metav1.GetOptions{})
	if err != nil || len(updated.Status.LoadBalancer.Ingress) != 1 {
		s.t.Fatalf("the Service has no ingress address: %v", err)
	}
}

// routedClient is an outside client that reaches the load-balancer address through this node.
func (s *scene) routedClient(node *lab.Node) *lab.Host {
	s.t.Helper()
	client, err := s.Client("client-of-" + node.Name)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := client.AddRoute(netip.PrefixFrom(loadBalancerAddress, loadBalancerAddress.BitLen()), node); err != nil {
		s.t.Fatal(err)
	}
	return client
}

// awaitHealth waits until the node's health check, as a load balancer asks it, tells of that many
// endpoints on the node: 200 with any, 503 with none.
func (s *scene) awaitHealth(node *lab.Node, port int32, endpoints int) {
	s.t.Helper()
	await(s.t, fmt.Sprintf("%s tells of %d endpoints on port %d", node.Name, endpoints, port), func(context.Context) error {
		response, err := s.client.HTTPClient(false).Get("http://" + lab.HostPort(node.IPv4, port) + "/healthz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		var health struct{ LocalEndpoints int }
		if err := json.Unmarshal(body, &health); err != nil {
			return fmt.Errorf("%w: %s", err, body)
		}
		if health.LocalEndpoints != endpoints || (response.StatusCode == 200) != (endpoints > 0) {
			return fmt.Errorf("it answers %s: %s", response.Status, body)
		}
		return nil
	})
}
