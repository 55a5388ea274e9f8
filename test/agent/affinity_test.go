package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// A packet that is on its way while its endpoint leaves is learned from when it goes out, after the agent
// has made session affinity forget that endpoint. The client must get away from it all the same, though
// each of its connections has it remembered anew.
func TestABusyClientGetsAwayFromAnEndpointThatLeft(t *testing.T) {
	b := requireBed(t)
	b.startAgent(t)
	pods, err := b.RunPods(t.Context(), lab.PodSpec{Name: "busy", Ports: []lab.Port{lab.UDP(80)}}, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.DeletePods(context.Background(), pods...) })
	service := b.serviceOf(t, "busy", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.Ports[0].Protocol = corev1.ServiceTypeNodePort, corev1.ProtocolUDP
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	})
	address := net.JoinHostPort(b.node.IPv4.String(), fmt.Sprint(service.Spec.Ports[0].NodePort))

	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	defer func() {
		stop()
		busy.Wait()
	}()
	for range 2 {
		busy.Go(func() {
			for ctx.Err() == nil {
				if conn, err := b.client.Dial(ctx, "udp", address); err == nil {
					_, _ = io.WriteString(conn, "who?") // whether and by whom it is answered does not matter
					_ = conn.Close()
				}
			}
		})
	}
	for i := range 20 {
		pod := pods[i%2]
		slice := sliceOf("busy", addresses(pods[i%2:i%2+1]))
		slice.Ports[0].Protocol = ptr.To(corev1.ProtocolUDP)
		if _, err := b.Kubernetes.DiscoveryV1().EndpointSlices("default").Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("change %d", i), func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second/2) // the pods are too busy for every datagram
			defer cancel()
			name, err := b.client.Ask(ctx, "udp", address)
			if err == nil && name != pod.Name {
				err = fmt.Errorf("%s answers, want %s", name, pod.Name)
			}
			return err
		})
	}
}
