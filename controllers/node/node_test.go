package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range list {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func TestComputeNodeTakesTheFirstInternalAddressOfEachFamily(t *testing.T) {
	object := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelTopologyZone: "zone-a"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeExternalIP, Address: "198.51.100.1"}, {Type: corev1.NodeExternalIP, Address: "fd00::e"},
			{Type: corev1.NodeInternalIP, Address: "192.168.0.1"}, {Type: corev1.NodeInternalIP, Address: "192.168.0.2"},
			{Type: corev1.NodeHostName, Address: "node1"},
		}},
	}
	node := proxy.NodeOf("node1", object)
	if want := addrs("192.168.0.1", "fd00::e"); !slices.Equal(node.NodePortAddresses, want) || node.Zone != "zone-a" {
		t.Errorf("addresses %v in %q, want %v in zone-a", node.NodePortAddresses, node.Zone, want)
	}
	if node := proxy.NodeOf("node1", nil); node.Name != "node1" || len(node.NodePortAddresses) > 0 {
		t.Errorf("without a Node object: %+v", node)
	}
}

func TestNodePortAddresses(t *testing.T) {
	primary := addrs("192.168.0.1", "fd00::1")
	local := addrs("127.0.0.1", "::1", "fe80::1", "169.254.1.1", "192.168.0.1", "10.0.0.1", "fd00::1", "fd00::2")
	for _, test := range []struct {
		words []string
		want  []netip.Addr
	}{
		{nil, primary},
		{[]string{"primary"}, primary},
		{[]string{"all"}, addrs("10.0.0.1", "192.168.0.1", "fd00::1", "fd00::2")},
		{[]string{"10.0.0.0/8"}, addrs("10.0.0.1")},
		{[]string{"10.0.0.0/8", "fd00::2/128", "127.0.0.0/8"}, addrs("10.0.0.1", "fd00::2")},
		{[]string{"primary", "10.0.0.0/8"}, addrs("10.0.0.1", "192.168.0.1", "fd00::1")},
	} {
		n, err := parseNodePorts(test.words)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.compute(primary, local); !slices.Equal(got, test.want) {
			t.Errorf("%q gives %v, want %v", test.words, got, test.want)
		}
	}
}

func TestOptionsSayWhatIsWrong(t *testing.T) {
	o := Options{Mode: "some", NodePorts: []string{"eth0"}, ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.1/16")}}
	err := o.Validate()
	for _, want := range []string{"API client is missing", "node name is missing", `"some"`, `"eth0"`, "10.244.0.1/16"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
	good := Options{Client: &kubernetes.Clientset{}, NodeName: "node1"}
	if err := good.Validate(); err != nil || good.Mode != ModeGroups || good.Registerer == nil {
		t.Errorf("defaults: %+v, %v", good, err)
	}
}

func TestRangesFollowHowPodsAreDetected(t *testing.T) {
	cluster, nodes := netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.244.7.0/24")
	object := &corev1.Node{Spec: corev1.NodeSpec{PodCIDRs: []string{nodes.String(), "nonsense"}}}
	everything := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	for _, test := range []struct {
		options      Options
		pods, inside []netip.Prefix
	}{
		{Options{DetectLocal: DetectClusterCIDR, ClusterCIDRs: []netip.Prefix{cluster}}, []netip.Prefix{cluster}, []netip.Prefix{cluster}},
		{Options{DetectLocal: DetectClusterCIDR, ClusterCIDRs: []netip.Prefix{cluster}, MasqueradeAll: true}, []netip.Prefix{cluster}, nil},
		{Options{DetectLocal: DetectClusterCIDR}, nil, everything},
		{Options{DetectLocal: DetectNodeCIDR, ClusterCIDRs: []netip.Prefix{cluster}}, []netip.Prefix{nodes}, []netip.Prefix{nodes}},
		{Options{DetectLocal: DetectBridge, PodBridge: "cni0"}, nil, nil},
	} {
		got := computeRanges(&test.options, object, nil)
		if !slices.Equal(got.Pods, test.pods) || !slices.Equal(got.Inside, test.inside) {
			t.Errorf("%s: pods %v and inside %v, want %v and %v", test.options.DetectLocal, got.Pods, got.Inside, test.pods, test.inside)
		}
	}
	for _, bad := range []Options{{DetectLocal: DetectBridge}, {DetectLocal: DetectInterfacePrefix, PodInterfacePrefix: "a-name-that-is-too-long"}, {DetectLocal: "guess"}} {
		if err := bad.validateDetectLocal(); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func TestHealthReport(t *testing.T) {
	h, now := &health{}, time.Now()
	expect := func(what string, at time.Time, status int, reason string) {
		t.Helper()
		if got, report := h.report(at); got != status || !strings.Contains(report.Reason, reason) {
			t.Errorf("%s: %d %q, want %d %q", what, got, report.Reason, status, reason)
		}
	}
	expect("before the first sync", now, 503, "waiting")
	h.failed(errors.New("no nftables"))
	expect("when the first sync fails", now, 503, "no nftables")
	h.succeeded()
	expect("after a sync", now, 200, "")
	h.failed(errors.New("no nftables"))
	expect("right after a failure", now, 200, "no nftables")
	expect("after two minutes of failures", now.Add(2*time.Minute), 503, "no nftables")
	h.succeeded()
	h.setNode(&corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: taintToBeDeleted}}}})
	expect("with the autoscaler's taint", now, 503, taintToBeDeleted)
	h.setNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: now}}})
	expect("while the node is being deleted", now, 503, "being deleted")
	h.setNode(&corev1.Node{})
	expect("once it stays", now, 200, "")
}

func TestHealthCheckNodePort(t *testing.T) {
	var healthy atomic.Bool
	checks := newHealthChecks(healthy.Load, prometheus.NewGauge(prometheus.GaugeOpts{}), logr.Discard())
	defer checks.close()
	name := types.NamespacedName{Namespace: "default", Name: "web"}
	port := freePort(t)
	set := func(port int32, local proxy.PerFamily) {
		checks.set(map[types.NamespacedName]*proxy.Service{name: {HealthCheckNodePort: port, LocalReady: local}}, []netip.Addr{{}})
	}
	get := func() (int, string, map[string]any) {
		response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			return 0, err.Error(), nil
		}
		defer response.Body.Close()
		var body map[string]any
		if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, response.Header.Get("X-Load-Balancing-Endpoint-Weight"), body
	}
	for _, step := range []struct {
		local   int
		healthy bool
		status  int
	}{{2, true, 200}, {0, true, 503}, {1, false, 503}, {1, true, 200}} {
		healthy.Store(step.healthy)
		// Of the other family it has others, which do not count.
		set(port, proxy.PerFamily{IPv4: step.local, IPv6: 1 - min(1, step.local)})
		status, weight, body := get()
		if status != step.status || weight != fmt.Sprint(step.local) || body["localEndpoints"] != float64(step.local) || body["serviceProxyHealthy"] != step.healthy {
			t.Errorf("%+v: status %d, weight %s, body %v", step, status, weight, body)
		}
	}
	set(port, proxy.PerFamily{IPv6: 3})
	if status, weight, _ := get(); status != 503 || weight != "0" {
		t.Errorf("over IPv4: status %d, weight %s", status, weight)
	}
	// Not every machine that runs this has IPv6.
	over6 := context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv6loopback})
	answer := httptest.NewRecorder()
	checks.wanted[name].answer(answer, httptest.NewRequestWithContext(over6, http.MethodGet, "/", nil), true)
	if weight := answer.Header().Get("X-Load-Balancing-Endpoint-Weight"); answer.Code != 200 || weight != "3" {
		t.Errorf("over IPv6: status %d, weight %s", answer.Code, weight)
	}
	set(0, proxy.PerFamily{})
	if status, _, _ := get(); status != 0 {
		t.Errorf("a Service without a health-check NodePort still answers %d", status)
	}
}

func freePort(t *testing.T) int32 {
	t.Helper()
	listener := httptest.NewServer(http.NotFoundHandler())
	defer listener.Close()
	return int32(listener.Listener.Addr().(*net.TCPAddr).Port)
}

func TestDumpShowsWhatDiffers(t *testing.T) {
	vip := func(addr string) ruleset.Element {
		return ruleset.Element{Map: ruleset.VirtualIPs, Key: proxy.Key{Addr: netip.MustParseAddr(addr)}}
	}
	believed := &agentapi.Dump{Synced: true, Services: 1, Agent: []ruleset.Element{vip("10.96.0.1"), vip("10.96.0.2")}}
	for _, test := range []struct {
		name        string
		kernel      []ruleset.Element
		layout, all bool
		want, not   string
	}{
		{"equal", believed.Agent, true, false, "difference: none", "10.96.0.1"},
		{"all", believed.Agent, true, true, "  virtual-ips: 10.96.0.1", "+ "},
		{"one missing", believed.Agent[:1], true, false, "+ virtual-ips: 10.96.0.2", "10.96.0.1"},
		{"one too many", append(slices.Clone(believed.Agent), vip("10.96.0.3")), true, false, "- virtual-ips: 10.96.0.3", "+ "},
		{"another layout", nil, false, false, "not in the layout", "difference: none"},
	} {
		var out strings.Builder
		believed.Kernel, believed.LayoutFound = test.kernel, test.layout
		if err := printDump(&out, believed, test.all); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), test.want) || strings.Contains(out.String(), test.not) {
			t.Errorf("%s: want %q and not %q in\n%s", test.name, test.want, test.not, out.String())
		}
	}
}

func TestSlimKeepsWhatIsServed(t *testing.T) {
	yes, node, port, name := true, "node1", int32(8080), "http"
	slice := func() *discoveryv1.EndpointSlice {
		ready, nodeName := yes, node
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: "web-1", ManagedFields: []metav1.ManagedFieldsEntry{{}},
				Labels:      map[string]string{discoveryv1.LabelServiceName: "web", v1alpha1.LabelServiceProxyName: "servicegroup", "app": "x"},
				Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-01T00:00:00Z", "note": "x"},
			},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
			Endpoints: []discoveryv1.Endpoint{{
				Addresses: []string{"10.244.0.1"}, NodeName: &nodeName, TargetRef: &corev1.ObjectReference{Name: "pod"},
				Conditions: discoveryv1.EndpointConditions{Ready: &ready},
				Hints:      &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "zone-a"}}},
			}},
		}
	}
	service := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
	thisNode := proxy.Node{Name: node, Zone: "zone-a"}
	want := proxy.Build(service, []*discoveryv1.EndpointSlice{slice()}, thisNode)

	first, second := slice(), slice()
	for _, obj := range []any{first, second} {
		if _, err := slim(obj); err != nil {
			t.Fatal(err)
		}
	}
	if got := proxy.Build(service, []*discoveryv1.EndpointSlice{first}, thisNode); !reflect.DeepEqual(got, want) {
		t.Errorf("what is left serves %+v, want %+v", got, want)
	}
	if first.Labels["app"] != "" || first.Annotations["note"] != "" || first.ManagedFields != nil || first.Endpoints[0].TargetRef != nil {
		t.Errorf("left: %+v", first)
	}
	if serviceOf(first).Name != "web" || first.Annotations[corev1.EndpointsLastChangeTriggerTime] == "" {
		t.Errorf("lost: %+v", first.ObjectMeta)
	}
	a, b := first.Endpoints[0], second.Endpoints[0]
	if a.NodeName != b.NodeName || a.Conditions.Ready != b.Conditions.Ready {
		t.Error("two slices do not share what they say alike")
	}
}

func TestNewestResourceVersion(t *testing.T) {
	for _, test := range []struct{ a, b, want string }{
		{"9", "10", "10"}, {"10", "9", "10"}, {"", "7", "7"}, {"7", "", "7"}, {"7", "opaque", "7"}, {"opaque", "7", "7"}, {"", "", ""},
	} {
		if got := newest(test.a, test.b); got != test.want {
			t.Errorf("newest of %q and %q is %q, want %q", test.a, test.b, got, test.want)
		}
	}
}
