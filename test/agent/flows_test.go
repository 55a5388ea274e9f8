package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

const datagrams = "datagrams"

// serveDatagrams serves so many pods over UDP on port 80 and a NodePort.
func (b *bed) serveDatagrams(t *testing.T, n int) *corev1.Service {
	t.Helper()
	service := b.serviceOf(t, datagrams, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.Ports[0].Protocol = corev1.ServiceTypeNodePort, corev1.ProtocolUDP
	})
	b.moveDatagrams(t, addresses(b.datagramPods(t, n))...)
	return service
}

func (b *bed) datagramPods(t *testing.T, n int) []*lab.Pod {
	t.Helper()
	pods, err := b.RunPods(t.Context(), lab.PodSpec{Name: datagrams, Ports: []lab.Port{lab.UDP(80)}}, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.DeletePods(context.Background(), pods...) })
	return pods
}

// moveDatagrams makes these the endpoints.
func (b *bed) moveDatagrams(t *testing.T, endpoints ...netip.Addr) {
	t.Helper()
	slice := sliceOf(datagrams, endpoints)
	slice.Ports[0].Protocol = ptr.To(corev1.ProtocolUDP)
	if _, err := b.Kubernetes.DiscoveryV1().EndpointSlices("default").Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) nodePortOf(service *corev1.Service) string {
	return net.JoinHostPort(b.node.IPv4.String(), fmt.Sprint(service.Spec.Ports[0].NodePort))
}

// udpFlow is a UDP socket of a client, and the pod that answers it.
type udpFlow struct {
	net.Conn
	pod string
}

// openFlow starts a UDP flow, once there is an answer.
func (b *bed) openFlow(t *testing.T, address string) *udpFlow {
	t.Helper()
	conn, err := b.client.Dial(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	flow := &udpFlow{Conn: conn}
	eventually(t, "a UDP flow begins", func() (err error) { flow.pod, err = flow.ask(); return err })
	return flow
}

// ask sends a datagram, again if it is lost, and returns the name of the pod that answers.
func (f *udpFlow) ask() (string, error) {
	buffer := make([]byte, 1<<10)
	var err error
	for range 5 {
		if err = f.SetDeadline(time.Now().Add(bound / 5)); err != nil {
			return "", err
		}
		if _, err = io.WriteString(f, "who?"); err != nil {
			return "", err
		}
		var n int
		if n, err = f.Read(buffer); err == nil {
			name, _, _ := strings.Cut(string(buffer[:n]), " ")
			return name, nil
		}
	}
	return "", err
}

// TestStaleFlowsEndThoughNobodyLooked: a flow that goes on would go to its pod for as long as it does.
func TestStaleFlowsEndThoughNobodyLooked(t *testing.T) {
	b := requireBed(t)
	somewhere := []netip.Addr{netip.MustParseAddr("10.244.200.1")}
	steady := b.serviceOf(t, "steady", func(*corev1.Service) {}, somewhere...)
	deleteService := func(t *testing.T) {
		t.Helper()
		if err := b.Kubernetes.CoreV1().Services("default").Delete(t.Context(), datagrams, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name string
		// lose makes the agent miss that its only pod leaves the Service, or the Service the cluster.
		lose func(t *testing.T, agent *lab.Process, service *corev1.Service, pods []*lab.Pod)
		// moves says that there is another pod, else the flow is refused.
		moves bool
	}{
		{
			name: "the Service was deleted while no agent ran",
			lose: func(t *testing.T, agent *lab.Process, _ *corev1.Service, _ []*lab.Pod) {
				t.Helper()
				if err := agent.Stop(); err != nil {
					t.Fatal(err)
				}
				deleteService(t)
				b.startAgent(t)
			},
		},
		{
			name: "the agent was killed between its transaction and the look at the flows",
			lose: func(t *testing.T, agent *lab.Process, service *corev1.Service, pods []*lab.Pod) {
				t.Helper()
				if err := errors.Join(agent.Signal(syscall.SIGSTOP), agent.Signal(syscall.SIGKILL)); err != nil {
					t.Fatal(err)
				}
				<-agent.Ended()
				for _, frontend := range []string{
					fmt.Sprintf("%s . udp . 80", service.Spec.ClusterIP), fmt.Sprintf("%s . udp . %d", b.node.IPv4, service.Spec.Ports[0].NodePort),
				} {
					b.nft(t, fmt.Sprintf("delete element ip servicegroup endpoints { %s . 0 }", frontend))
					b.nft(t, fmt.Sprintf("add element ip servicegroup endpoints { %s . 0 : %s . 80 }", frontend, pods[1].IPv4))
				}
				b.moveDatagrams(t, pods[1].IPv4)
				b.startAgent(t)
				if written := b.elementsWritten(t); written != "0 0" {
					t.Errorf("the agent wrote %s elements to tables that were right", written)
				}
			},
			moves: true,
		},
		{
			name: "the kernel refused the transaction that deleted the Service",
			lose: func(t *testing.T, _ *lab.Process, _ *corev1.Service, _ []*lab.Pod) {
				t.Helper()
				const failures = `servicegroup_agent_sync_failures_total{reason="EPERM"}`
				release := b.ownTable(t)
				eventually(t, "a failure", func() error {
					if b.metric(t, failures) == 0 {
						return errors.New("none is counted")
					}
					return nil
				})
				deleteService(t)
				release()
				b.awaitEndpoints(t, steady.Spec.ClusterIP, somewhere)
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			agent := b.startAgent(t)
			service := b.serveDatagrams(t, 0)
			pods := b.datagramPods(t, 2)
			b.moveDatagrams(t, pods[0].IPv4)
			b.awaitEndpoints(t, b.node.IPv4.String(), addresses(pods[:1]))
			flow := b.openFlow(t, b.nodePortOf(service))
			test.lose(t, agent, service, pods)
			eventually(t, "the flow ends", func() error {
				pod, err := flow.ask()
				if test.moves && pod == pods[1].Name || !test.moves && errors.Is(err, syscall.ECONNREFUSED) {
					return nil
				}
				return errors.Join(fmt.Errorf("%s answers, before it was %s", pod, flow.pod), err)
			})
		})
	}
}
