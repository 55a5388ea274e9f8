package agent

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// TestAVirtualIPIsKnownByItsRange: an address that is an endpoint is left out as soon as it is in a range of
// Services, and served again afterwards.
func TestAVirtualIPIsKnownByItsRange(t *testing.T) {
	b := requireBed(t)
	endpoints := []netip.Addr{netip.MustParseAddr("10.113.0.1"), netip.MustParseAddr("10.244.200.1")}
	service := b.serviceOf(t, "ranged", func(*corev1.Service) {}, endpoints...)
	b.startAgent(t)
	b.awaitEndpoints(t, service.Spec.ClusterIP, endpoints)
	b.addServiceCIDR(t, "later", "10.113.0.0/24")
	b.awaitEndpoints(t, service.Spec.ClusterIP, endpoints[1:])
	b.awaitIgnored(t, proxy.VirtualIP, 1)
	if err := b.Kubernetes.NetworkingV1().ServiceCIDRs().Delete(t.Context(), "later", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.awaitEndpoints(t, service.Spec.ClusterIP, endpoints)
	b.awaitIgnored(t, proxy.VirtualIP, 0)
}

// TestAVirtualIPIsKnownWithoutItsRange: before Kubernetes 1.33 the API server says no ranges, but what the agent
// serves it knows.
func TestAVirtualIPIsKnownWithoutItsRange(t *testing.T) {
	b := requireBed(t)
	const vip = "10.111.255.88"
	endpoints := []netip.Addr{netip.MustParseAddr(vip), netip.MustParseAddr("10.244.200.1")}
	leads := b.serviceOf(t, "leads", func(*corev1.Service) {}, endpoints...)
	withoutRanges := "--kubeconfig=" + b.kubeconfigWithoutServiceCIDRs(t)
	agent := b.startAgent(t, withoutRanges)
	b.awaitEndpoints(t, leads.Spec.ClusterIP, endpoints) // no Service's yet
	b.serviceOf(t, "named", func(s *corev1.Service) { s.Spec.ClusterIP = vip }, endpoints[1])
	b.awaitEndpoints(t, leads.Spec.ClusterIP, endpoints[1:])
	b.awaitIgnored(t, proxy.VirtualIP, 1)
	requireOneLine(t, agent, vip+" (virtual-ip)")

	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	b.startAgent(t, withoutRanges) // ready means programmed
	if got, written := b.programmed(t, leads.Spec.ClusterIP), b.elementsWritten(t); !slices.Equal(got, endpoints[1:]) || written != "0 0" {
		t.Errorf("after a restart the Service leads to %v, and %s elements were written; want %v and 0 0", got, written, endpoints[1:])
	}
	b.awaitIgnored(t, proxy.VirtualIP, 1)

	if err := b.Kubernetes.CoreV1().Services("default").Delete(t.Context(), "named", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.awaitEndpoints(t, leads.Spec.ClusterIP, endpoints)
	b.awaitIgnored(t, proxy.VirtualIP, 0)
}

// kubeconfigWithoutServiceCIDRs leads to the API server by way of one on the node that has none.
func (b *bed) kubeconfigWithoutServiceCIDRs(t *testing.T) string {
	t.Helper()
	config := b.ControlPlane.Config()
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.Transport, forward.FlushInterval = transport, -1
	listener, err := b.node.Listen("tcp", net.JoinHostPort(b.node.IPv4.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/apis/networking.k8s.io/v1" {
			http.NotFound(w, r)
			return
		}
		forward.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })

	const name = "front"
	file := clientcmdapi.NewConfig()
	file.Clusters[name] = &clientcmdapi.Cluster{Server: "http://" + listener.Addr().String()}
	file.Contexts[name] = &clientcmdapi.Context{Cluster: name}
	file.CurrentContext = name
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAVirtualIPIsItsServices: who writes another's virtual IP into his external addresses does not get it,
// whoever came first.
func TestAVirtualIPIsItsServices(t *testing.T) {
	b := requireBed(t)
	b.startAgent(t, "--mode=all")
	own, thief := netip.MustParseAddr("10.244.200.1"), netip.MustParseAddr("10.244.200.66")
	const vip = "10.111.255.77"
	robber := b.serviceOf(t, "robber", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{vip} }, thief)
	b.awaitEndpoints(t, vip, []netip.Addr{thief}) // nobody else's yet
	b.serviceOf(t, "robbed", func(s *corev1.Service) { s.Spec.ClusterIP = vip }, own)
	b.awaitEndpoints(t, vip, []netip.Addr{own})
	b.awaitEndpoints(t, robber.Spec.ClusterIP, []netip.Addr{thief})
	b.awaitMetric(t, "servicegroup_agent_conflicting_services", 1)
}
