package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// threeServices are one of ours, one of the cluster's proxy and one of some other proxy; they return
// their virtual IPs in that order.
func (b *bed) threeServices(t *testing.T) (out []string) {
	t.Helper()
	for i, proxyName := range []string{v1alpha1.ServiceProxyName, "", "another"} {
		name := fmt.Sprintf("mode-%d", i)
		service := b.serviceOf(t, name, func(s *corev1.Service) { s.Labels = labelsOf(name, proxyName) }, netip.MustParseAddr("10.244.200.1"))
		b.labelSlice(t, service.Name, proxyName)
		out = append(out, service.Spec.ClusterIP)
	}
	return out
}

func (b *bed) served(t *testing.T, vips []string) (out []bool) {
	t.Helper()
	for _, vip := range vips {
		out = append(out, len(b.programmed(t, vip)) > 0)
	}
	return out
}

func TestOnlyOurServicesAreServed(t *testing.T) {
	b := requireBed(t)
	vips := b.threeServices(t)
	b.startAgent(t) // ready means programmed
	if got, want := b.served(t, vips), []bool{true, false, false}; !slices.Equal(got, want) {
		t.Errorf("served %v, want %v", got, want)
	}
}

// TestSlicesOfOthersDoNotCount: a slice needs our label as well as its Service does, and not the one of a headless Service.
func TestSlicesOfOthersDoNotCount(t *testing.T) {
	b := requireBed(t)
	own, forged := netip.MustParseAddr("10.244.200.1"), netip.MustParseAddr("10.244.200.66")
	ours := b.serviceOf(t, "ours", func(*corev1.Service) {}, own)
	others := b.serviceOf(t, "others", func(s *corev1.Service) { s.Labels = nil }, forged) // its slice has our label
	for name, change := range map[string]func(labels map[string]string){
		"without-label": func(labels map[string]string) { delete(labels, v1alpha1.LabelServiceProxyName) },
		"other-proxy":   func(labels map[string]string) { labels[v1alpha1.LabelServiceProxyName] = "another" },
		"headless":      func(labels map[string]string) { labels[corev1.IsHeadlessService] = "" },
	} {
		slice := sliceOf("ours", []netip.Addr{forged})
		slice.Name = name
		change(slice.Labels)
		api := b.Kubernetes.DiscoveryV1().EndpointSlices("default")
		if _, err := api.Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = api.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	}
	b.startAgent(t) // ready means programmed
	if got := b.programmed(t, ours.Spec.ClusterIP); !slices.Equal(got, []netip.Addr{own}) {
		t.Errorf("our Service leads to %v, want %v alone", got, own)
	}
	if got := b.programmed(t, others.Spec.ClusterIP); len(got) > 0 {
		t.Errorf("another's Service, whose slice has our label, leads to %v", got)
	}
}

// TestAdoptionIsServedEarly: an agent serves a Service that the operator is about to adopt, before the label
// comes by which the other proxy lets go, and goes on without a gap; and lets go if that is called off.
func TestAdoptionIsServedEarly(t *testing.T) {
	b := requireBed(t)
	endpoints := []netip.Addr{netip.MustParseAddr("10.244.200.1")}
	service := b.serviceOf(t, "adopted", func(s *corev1.Service) { s.Labels = nil }, endpoints...)
	vip := service.Spec.ClusterIP
	b.startAgent(t)
	if b.served(t, []string{vip})[0] {
		t.Fatal("a Service of the cluster's own proxy is served")
	}
	relabel := func(labels map[string]string) {
		t.Helper()
		service.Labels = labels
		var err error
		if service, err = b.Kubernetes.CoreV1().Services("default").Update(t.Context(), service, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	announced := labelsOf("adopted", "")
	announced[v1alpha1.LabelAdopting] = "true"
	relabel(announced)
	b.awaitEndpoints(t, vip, endpoints)
	relabel(nil) // called off
	b.awaitEndpoints(t, vip, nil)
	relabel(announced)
	b.awaitEndpoints(t, vip, endpoints)
	relabel(labelsOf("adopted", v1alpha1.ServiceProxyName))
	later := b.serviceOf(t, "later", func(*corev1.Service) {}, endpoints...)
	b.awaitEndpoints(t, later.Spec.ClusterIP, endpoints) // what came before it has been seen
	b.awaitEndpoints(t, vip, endpoints)
}

func TestEveryServiceIsServedInModeAll(t *testing.T) {
	b := requireBed(t)
	vips := b.threeServices(t)
	b.startAgent(t, "--mode=all")
	if got, want := b.served(t, vips), []bool{true, true, false}; !slices.Equal(got, want) {
		t.Errorf("served %v, want %v", got, want)
	}
	// The API server's own Service is there too, with an endpoint that is no pod.
	apiServer, err := b.Kubernetes.CoreV1().Services("default").Get(t.Context(), "kubernetes", getOptions)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.programmed(t, apiServer.Spec.ClusterIP); len(got) != 1 {
		t.Errorf("the API server's virtual IP leads to %v", got)
	}
	if mode := b.get(t, "10249/proxyMode"); mode != "nftables" {
		t.Errorf("proxy mode %q", mode)
	}
	for _, name := range []string{
		"kubeproxy_sync_proxy_rules_duration_seconds_count", "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
		"kubeproxy_network_programming_duration_seconds_bucket",
	} {
		if !strings.Contains(b.scrape(t), name) {
			t.Errorf("the metrics lack %s", name)
		}
	}
	if listing := b.listing(t); !strings.Contains(listing, lab.ServiceCIDRv4) {
		t.Errorf("the Service range %s is not in the tables", lab.ServiceCIDRv4)
	}
}
