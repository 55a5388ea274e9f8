package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const healthPort = 32099

func healthChecked(port int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.HealthCheckNodePort = port
	}
}

// healthOf asks an address of the node which Service answers there.
func (b *bed) healthOf(address netip.Addr, port int32) (string, error) {
	response, err := b.node.HTTPClient(false).Get("http://" + net.JoinHostPort(address.String(), fmt.Sprint(port)))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body := make([]byte, 1<<10)
	n, _ := response.Body.Read(body)
	return string(body[:n]), nil
}

func (b *bed) awaitHealth(t *testing.T, address netip.Addr, port int32, service string) {
	t.Helper()
	eventually(t, "the health-check port answers", func() error {
		answer, err := b.healthOf(address, port)
		if err == nil && !strings.Contains(answer, fmt.Sprintf("%q", service)) {
			err = fmt.Errorf("%s answers, want %s", answer, service)
		}
		return err
	})
}

// TestHealthCheckPortsComeWhenTheyAreFree: a process of the node has one when its Service comes, as the proxy that
// served it before may, and lets go without anything else happening.
func TestHealthCheckPortsComeWhenTheyAreFree(t *testing.T) {
	b := requireBed(t)
	const waiting = "servicegroup_agent_health_check_ports_waiting"
	holder, err := b.node.Listen("tcp", net.JoinHostPort(b.node.IPv4.String(), fmt.Sprint(healthPort)))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	b.startAgent(t)
	b.serviceOf(t, "held", healthChecked(healthPort))
	eventually(t, "a port waits", func() error {
		if n := b.metric(t, waiting); n != 1 {
			return fmt.Errorf("%v are waiting", n)
		}
		return nil
	})
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
	b.awaitHealth(t, b.node.IPv4, healthPort, "held")
	b.awaitMetric(t, waiting, 0)
}

// TestHealthCheckPortsAreWhereNodePortsAre: on no other address of the node.
func TestHealthCheckPortsAreWhereNodePortsAre(t *testing.T) {
	b := requireBed(t)
	elsewhere := netip.MustParseAddr("127.0.0.1")
	b.serviceOf(t, "where", healthChecked(healthPort))
	for _, test := range []struct {
		addresses  string
		everywhere bool
	}{{"primary", false}, {netip.PrefixFrom(b.node.IPv4, 24).Masked().String(), false}, {"all", true}} {
		agent := b.startAgent(t, "--nodeport-addresses="+test.addresses)
		b.awaitHealth(t, b.node.IPv4, healthPort, "where")
		if _, err := b.healthOf(elsewhere, healthPort); (err == nil) != test.everywhere {
			t.Errorf("with %s, %s answers: %v (%v)", test.addresses, elsewhere, err == nil, err)
		}
		if err := agent.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHealthCheckPortsMoveBetweenServices: whichever of the two the agent takes first.
func TestHealthCheckPortsMoveBetweenServices(t *testing.T) {
	b := requireBed(t)
	agent := b.startAgent(t)
	services := b.Kubernetes.CoreV1().Services("default")
	previous := ""
	for i := range 20 {
		name := fmt.Sprintf("moving%d", i)
		if previous != "" {
			if err := errors.Join(agent.Signal(syscall.SIGSTOP), services.Delete(context.Background(), previous, metav1.DeleteOptions{})); err != nil {
				t.Fatal(err)
			}
		}
		b.serviceOf(t, name, healthChecked(healthPort))
		if err := agent.Signal(syscall.SIGCONT); err != nil { // both changes are there now
			t.Fatal(err)
		}
		b.awaitHealth(t, b.node.IPv4, healthPort, name)
		previous = name
	}
}
