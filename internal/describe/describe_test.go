package describe

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

func TestStatusText(t *testing.T) {
	full := populated()
	requireGolden(t, "status.txt", StatusOf(&full.Observed).Text(false, Narrow))
	requireGolden(t, "status-wide.txt", StatusOf(&full.Observed).Text(false, Wide))
	requireGolden(t, "status-colour.txt", StatusOf(&full.Observed).Text(true, Narrow))

	empty := newWorld()
	empty.slice("web", "http", 8080)
	empty.slice("api", "rpc", 9090)
	empty.condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNoReadyEndpoints, "no ready endpoint for port http (80/TCP): group web selects no pod")
	empty.Reports[1].Programmed.Services = "6"
	requireGolden(t, "status-no-endpoints.txt", StatusOf(&empty.Observed).Text(false, Narrow))

	taken := newWorld()
	taken.Service, taken.Group.Status.Conditions = nil, nil
	taken.condition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonNameTaken, "there is a Service web already, which no ServiceGroup made")
	taken.condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNotAccepted, "nothing is served before the spec is accepted")
	requireGolden(t, "status-conflict.txt", StatusOf(&taken.Observed).Text(false, Narrow))

	balanced := populated()
	balanced.Service.Spec.Type = corev1.ServiceTypeLoadBalancer
	balanced.Group.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	balanced.Group.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	balanced.Accepted = balanced.Group.Spec.DeepCopy()
	balanced.Reports[0].Stale, balanced.Unread = true, []string{"nodes: you may not list them"}
	for i := range 12 {
		name, ip := fmt.Sprintf("api-%d", 10+i), fmt.Sprintf("10.244.1.%d", 100+i)
		balanced.Slices[1].Endpoints = append(balanced.Slices[1].Endpoints, endpoint(name, "node1", ip, Ready))
	}
	requireGolden(t, "status-load-balancer.txt", StatusOf(&balanced.Observed).Text(false, Narrow))

	tenant := populated()
	tenant.ReportsUnread, tenant.Unread = true, []string{"how far each node is: you may not list nodes"}
	tenant.condition(v1alpha1.ConditionProgrammed, metav1.ConditionTrue, v1alpha1.ReasonProgrammed, "every agent has programmed this spec")
	requireGolden(t, "status-tenant.txt", StatusOf(&tenant.Observed).Text(false, Narrow))

	external := newWorld()
	external.Group.Spec.Groups[1] = v1alpha1.Group{Name: "api", External: &v1alpha1.External{Addresses: []string{"192.0.2.10", "192.0.2.11"}}}
	external.serve()
	external.slice("web", "http", 8080)
	ep := endpoint("", "", "192.0.2.10", Ready)
	ep.TargetRef, ep.NodeName, ep.Zone = nil, nil, nil
	external.slice("api", "rpc", 9090, ep)
	requireGolden(t, "status-external.txt", StatusOf(&external.Observed).Text(false, Narrow))
	explanation, err := Explain(&external.Observed, "")
	if err != nil {
		t.Fatal(err)
	}
	requireGolden(t, "explain-external.txt", explanation.Text(false, Narrow))
}

// TestExplainTheSecondFamily: a pod's first address is not the one that is served where the entry point has the
// other family.
func TestExplainTheSecondFamily(t *testing.T) {
	w := newWorld()
	pod := w.pod("web-1", "web", "node1", "10.244.1.2", true, "http")
	pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: "fd00:10:244:1::2"})
	w.Service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	for want, written := range map[string][]discoveryv1.Endpoint{
		"": {endpoint("web-1", "node1", "fd00:10:244:1::2", Ready)},
		"its EndpointSlice still says: not ready":                  {endpoint("web-1", "node1", "fd00:10:244:1::2", NotReady)},
		"the manager has not written it into an EndpointSlice yet": nil,
	} {
		w.Slices = nil
		w.slice("web", "http", 8080, written...)
		w.Slices[0].AddressType = discoveryv1.AddressTypeIPv6
		explanation, err := Explain(&w.Observed, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := explanation.Groups[0].Pods[0]; got.Lag != want || !got.In {
			t.Errorf("in %t, lag %q, want %q", got.In, got.Lag, want)
		}
	}
}

// TestOnlyLinuxHasAgents: a node of another system is not missed.
func TestOnlyLinuxHasAgents(t *testing.T) {
	w := populated()
	w.Nodes["windows1"] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "windows1", Labels: map[string]string{corev1.LabelOSStable: "windows"}}}
	if silent := StatusOf(&w.Observed).Agents.Silent; len(silent) > 0 {
		t.Errorf("silent: %q", silent)
	}
	w.Nodes["linux3"] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "linux3", Labels: map[string]string{corev1.LabelOSStable: "linux"}}}
	if silent := StatusOf(&w.Observed).Agents.Silent; !slices.Equal(silent, []string{"linux3"}) {
		t.Errorf("silent: %q", silent)
	}
}

func TestExplainText(t *testing.T) {
	w := populated()
	for name, pod := range map[string]string{"explain.txt": "", "explain-pod.txt": "db-1", "explain-port.txt": "api-2"} {
		explanation, err := Explain(&w.Observed, pod)
		if err != nil {
			t.Fatal(err)
		}
		requireGolden(t, name, explanation.Text(false, Narrow))
	}
	explanation, err := Explain(&w.Observed, "")
	if err != nil {
		t.Fatal(err)
	}
	requireGolden(t, "explain-wide.txt", explanation.Text(false, Wide))
	w.Service = nil
	explanation, err = Explain(&w.Observed, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := "nothing is served yet; this is what the spec asks for"; explanation.Note != want {
		t.Errorf("note %q, want %q", explanation.Note, want)
	}
	if _, err := Explain(&w.Observed, "web-9"); err == nil || !strings.HasPrefix(err.Error(), "there is no pod web-9 in namespace shop; did you mean web-1 or ") {
		t.Errorf("no such pod: %v", err)
	}
}

// dumpOf is what an agent tells that has programmed what is there.
func dumpOf(w *world) *agentapi.Dump {
	pods := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	dump := &agentapi.Dump{Synced: true, LayoutFound: true, Node: proxy.NodeOf("node1", w.Nodes["node1"]), Ranges: ruleset.Ranges{Pods: pods, Inside: pods}}
	dump.Agent = compute(&w.Observed, dump)
	dump.Kernel = dump.Agent
	return dump
}

// stickyShop gives the shop session affinity on a node where other Services had it first, and returns what
// the kernel would say of db-1 if its last endpoint on port 80 was this one.
func stickyShop(w *world, d *agentapi.Dump, last string) []ruleset.Remembered {
	const others = 6
	w.Service.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	for i := range w.Slices[0].Endpoints[:3] {
		w.Slices[0].Endpoints[i].Conditions.Ready = ptr.To(true)
	}
	d.Agent = nil
	for _, e := range compute(&w.Observed, d) {
		if e.Map == ruleset.AffinityShares {
			e.Chain.N += others
		}
		d.Agent = append(d.Agent, e)
	}
	d.Kernel, d.Clients = d.Agent, []netip.Addr{netip.MustParseAddr("10.244.1.9")}
	at := netip.MustParseAddrPort(last)
	share := slices.IndexFunc(d.Agent, func(e ruleset.Element) bool { return e.Map == ruleset.AffinityShares && e.Key.Port == 80 })
	return []ruleset.Remembered{
		{Client: d.Clients[0], Share: others, Endpoint: proxy.Endpoint{Addr: netip.MustParseAddr("10.244.1.99"), Port: 1}, Seconds: 9}, // by another port
		{Client: d.Clients[0], Share: d.Agent[share].Chain.N, Endpoint: proxy.Endpoint{Addr: at.Addr(), Port: at.Port()}, Seconds: 10532},
	}
}

func TestTraceText(t *testing.T) {
	for _, test := range []struct {
		golden, from string
		change       func(w *world, d *agentapi.Dump, c *Connection)
	}{
		{"trace.txt", "db-1", func(*world, *agentapi.Dump, *Connection) {}},
		{"trace-outside.txt", "198.51.100.7", func(*world, *agentapi.Dump, *Connection) {}},
		{"trace-differs.txt", "db-1", func(_ *world, d *agentapi.Dump, _ *Connection) {
			d.Kernel = nil
			for _, e := range d.Agent {
				if e.Map != ruleset.Endpoints {
					d.Kernel = append(d.Kernel, e)
				}
			}
		}},
		{"trace-conflict.txt", "node/node1", func(w *world, d *agentapi.Dump, _ *Connection) {
			d.Agent, d.Kernel = nil, nil
			d.Conflicts = []agentapi.Conflict{{Frontend: proxy.Key{Addr: netip.MustParseAddr("10.96.0.20"), Port: 80, Protocol: proxy.TCP}, Holder: "other/web"}}
		}},
		{"trace-left.txt", "198.51.100.7", func(w *world, d *agentapi.Dump, _ *Connection) {
			d.Left = []proxy.Key{{Addr: netip.MustParseAddr("192.168.0.1"), Port: 30080, Protocol: proxy.TCP}}
			d.Agent = compute(&w.Observed, d)
			d.Kernel = d.Agent
		}},
		{"trace-remembered.txt", "db-1", func(w *world, d *agentapi.Dump, _ *Connection) { d.Remembered = stickyShop(w, d, "10.244.2.2:8080") }},
		{"trace-not-remembered.txt", "db-1", func(w *world, d *agentapi.Dump, _ *Connection) { stickyShop(w, d, "10.244.2.2:8080") }},
		{"trace-not-forgotten.txt", "db-1", func(w *world, d *agentapi.Dump, _ *Connection) { d.Remembered = stickyShop(w, d, "10.244.2.4:8080") }},
		{"trace-affinity-unknown.txt", "10.244.2.77", func(w *world, d *agentapi.Dump, _ *Connection) { stickyShop(w, d, "10.244.2.2:8080") }},
		{"trace-lagging.txt", "10.244.2.77", func(_ *world, d *agentapi.Dump, _ *Connection) { d.Agent, d.Kernel = nil, nil }},
	} {
		w := populated()
		client, err := FindClient(test.from, &w.Observed)
		if err != nil {
			t.Fatal(err)
		}
		connection := Connection{Port: "80", Client: client, Node: "node1"}
		dump := dumpOf(w)
		test.change(w, dump, &connection)
		trace, err := ComputeTrace(&w.Observed, connection, dump, nil)
		if err != nil {
			t.Fatal(err)
		}
		requireGolden(t, test.golden, trace.Text(false, Narrow))
		if test.golden == "trace-lagging.txt" {
			requireGolden(t, "trace-lagging-wide.txt", trace.Text(false, Wide))
		}
	}
}

func TestTraceWithoutTheAgent(t *testing.T) {
	w := populated()
	client, err := FindClient("db-1", &w.Observed)
	if err != nil {
		t.Fatal(err)
	}
	trace, err := ComputeTrace(&w.Observed, Connection{Port: "80", Client: client, Node: "node1"}, nil, errors.New("the agent of node node1 does not answer"))
	if err != nil {
		t.Fatal(err)
	}
	requireGolden(t, "trace-silent.txt", trace.Text(false, Narrow))
}

func TestWhatCannotBeTraced(t *testing.T) {
	for want, change := range map[string]func(w *world, c *Connection){
		"is not served yet": func(w *world, _ *Connection) { w.Service = nil },
		"is headless":       func(w *world, _ *Connection) { w.Service.Spec.ClusterIP = "None" },
		"is an alias for example.org": func(w *world, _ *Connection) {
			w.Service.Spec.Type, w.Service.Spec.ExternalName = "ExternalName", "example.org"
		},
		"the cluster's own proxy":            func(w *world, _ *Connection) { w.Service.Labels = nil },
		"has no port 80 udp; it has http":    func(_ *world, c *Connection) { c.Protocol = "udp" },
		"--address 192.0.2.1: the addresses": func(_ *world, c *Connection) { c.Address = netip.MustParseAddr("192.0.2.1") },
		"no address of the client's family": func(_ *world, c *Connection) {
			c.Client = Client{Kind: clientOutside, Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}
		},
	} {
		w := populated()
		client, err := FindClient("db-1", &w.Observed)
		if err != nil {
			t.Fatal(err)
		}
		connection := Connection{Port: "80", Client: client, Node: "node1"}
		change(w, &connection)
		if _, err := ComputeTrace(&w.Observed, connection, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestGraphs(t *testing.T) {
	w := populated()
	w.Group.Spec.Groups[0].Name = "web"
	status := StatusOf(&w.Observed)
	status.Name = `web "<&>`
	requireGolden(t, "graph.mermaid", status.Mermaid())
	requireGolden(t, "graph.dot", status.Dot())
	requireGolden(t, "graph.svg", status.SVG())
}

func TestCheckText(t *testing.T) {
	good := &agentapi.NodeCheck{Version: "v1", Kernel: "6.18", Mode: "groups", Proxies: []string{"kube-proxy in mode nftables"}, Probes: []agentapi.Probe{{Name: "nftables"}}}
	bad := &agentapi.NodeCheck{
		Version: "v0", Kernel: "5.4", Mode: "all", Proxies: []string{"kube-proxy in mode iptables"},
		Probes: []agentapi.Probe{
			{Name: "kernel", Problem: "Linux 5.4 is too old", Remedy: "boot Linux 5.13 or newer"},
			{Name: "connection counters", Optional: true, Problem: "the kernel does not take the tables", Remedy: "boot another kernel"},
		},
		Listeners:   []agentapi.Listener{{Address: "192.168.0.1:30080", Protocol: "tcp"}, {Address: "192.168.0.1:30022", Protocol: "tcp", Kept: true}},
		Connections: []agentapi.Attempt{{Address: "10.96.0.20:80", Problem: "connection refused"}},
	}
	healthy := &Installation{
		Version: "v1", SchemaRevision: "1", Schema: "1", Groups: 2, Nodes: []string{"node1"}, Managers: []Manager{{Pod: "sys/manager-1", Ready: true, Version: "v1"}},
		Agents: map[string]Agent{"node1": {Pod: "sys/agent-1", Ready: true, Check: good}},
	}
	requireGolden(t, "check.txt", CheckOf(healthy).Text(false))
	big := *healthy
	big.Agents = map[string]Agent{}
	for i := range 1000 {
		name := fmt.Sprintf("node%d", i)
		big.Nodes, big.Agents[name] = append(big.Nodes, name), Agent{Pod: "sys/agent-" + name, Ready: true, Check: good}
	}
	big.Nodes = big.Nodes[1:]
	requireGolden(t, "check-many.txt", CheckOf(&big).Text(false))
	big.EachNode = true
	if wide := CheckOf(&big).Text(false); strings.Count(wide, "  agent v1, mode groups") != len(big.Nodes) {
		t.Errorf("not each of %d nodes has a line:\n%s", len(big.Nodes), wide)
	}
	sick := &Installation{
		Version: "v1", SchemaRevision: "1", Schema: "0", Groups: 1, Neglected: []string{"shop/web"}, Nodes: []string{"node1", "node2", "node3", "node4"},
		Managers: []Manager{{Pod: "sys/manager-1"}}, Targets: map[string]string{"10.96.0.20:80": "shop/web"},
		Agents: map[string]Agent{
			"node1": {Pod: "sys/agent-1", Ready: true, Check: bad},
			"node2": {Pod: "sys/agent-2", Silence: "the agent of node node2 (pod sys/agent-2) does not answer: container not found; see kubectl logs"},
			"node3": {Pod: "sys/agent-3", Check: &agentapi.NodeCheck{Version: "v1", Silence: "no agent answers in this network namespace"}},
		},
	}
	requireGolden(t, "check-sick.txt", CheckOf(sick).Text(false))
}

func TestRates(t *testing.T) {
	row := func(group, endpoint string, n uint64) agentapi.Connection {
		return agentapi.Connection{Namespace: "shop", Service: "web", Port: "http", PortNumber: 80, Protocol: "TCP", Group: group, Endpoint: endpoint, Connections: n}
	}
	other := agentapi.Connection{Namespace: "kube-system", Service: "dns", PortNumber: 53, Protocol: "UDP", Connections: 1000}
	before := Sample{
		"node1": {row("web", "10.244.1.2:8080", 10), row("web", "10.244.1.3:8080", 5), row("api", "10.244.1.4:80", 7)},
		"node3": {},
	}
	after := Sample{
		// The second counter was started anew, and node2 answers for the first time.
		"node1": {row("web", "10.244.1.2:8080", 30), row("web", "10.244.1.3:8080", 4), row("api", "10.244.1.4:80", 7), other},
		"node2": {row("web", "10.244.1.2:8080", 500), row("web", "", 3)},
		"node3": {row("web", "10.244.1.2:8080", 4)},
	}
	wanted := func(namespace, _ string) bool { return namespace == "shop" }
	top := Rates(before, after, 2, ByEndpoint, wanted)
	top.Silent = []string{"the agent of node node4 does not answer"}
	requireGolden(t, "top.txt", top.Text(false, Narrow, true))
	slice := discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Endpoints: []discoveryv1.Endpoint{endpoint("web-1", "node1", "10.244.1.2", Ready)}}
	top.NamePods([]discoveryv1.EndpointSlice{slice})
	requireGolden(t, "top-wide.txt", top.Text(false, Wide, true))
	requireGolden(t, "top-groups.txt", Rates(before, after, 2, ByGroup, wanted).Text(false, Narrow, true))
	requireGolden(t, "top-no-headers.txt", Rates(before, after, 2, ByGroup, wanted).Text(true, Wide, false))
	requireGolden(t, "top-nothing.txt", Rates(after, after, 2, ByPort, func(string, string) bool { return false }).Text(false, Narrow, true))
}

func TestUnknown(t *testing.T) {
	for want, err := range map[string]error{
		"there is no ServiceGroup webb in namespace shop; did you mean web?":                          Unknown("ServiceGroup", "webb", "shop", []string{"web", "database"}),
		"there is no ServiceGroup x in namespace shop; there is database, web":                        Unknown("ServiceGroup", "x", "shop", []string{"web", "database"}),
		"there is no ServiceGroup x in namespace shop, nor any other; name another namespace with -n": Unknown("ServiceGroup", "x", "shop", nil),
		"there is no node node9; did you mean node1?":                                                 Unknown("node", "node9", "", []string{"node1"}),
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}

func TestRedact(t *testing.T) {
	object := map[string]any{
		"kind": "Pod",
		"metadata": map[string]any{"name": "web", "managedFields": []any{1}, "annotations": map[string]any{
			"kubectl.kubernetes.io/last-applied-configuration": "x", "net.servicegroup.dev/served": "kept",
		}},
		"spec": map[string]any{"nodeName": "node1", "serviceAccountName": "robot", "containers": []any{map[string]any{
			"name": "web", "ports": []any{}, "args": []any{"--password=x"}, "env": []any{map[string]any{"name": "TOKEN", "value": "x"}},
		}}},
	}
	Redact(object, true)
	if got, want := fmt.Sprint(object), "map[kind:Pod metadata:map[annotations:map[net.servicegroup.dev/served:kept] name:web] "+
		"spec:map[containers:[map[args:[--password=x] env:[map[name:TOKEN]] name:web ports:[]]] nodeName:node1 serviceAccountName:robot]]"; got != want {
		t.Errorf("ours: got\n%s\nwant\n%s", got, want)
	}
	Redact(object, false)
	if got, want := fmt.Sprint(object["spec"]), "map[containers:[map[name:web ports:[]]] nodeName:node1]"; got != want {
		t.Errorf("another's: got\n%s\nwant\n%s", got, want)
	}
}
