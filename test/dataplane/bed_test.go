package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/conntrack"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

func TestMain(m *testing.M) { lab.Main(m) }

// bed is two nodes with pods and a client outside: web1 and web2 serve on node1, web3 on node2, every
// node has a pod that only asks, and the client's route to the virtual IPs leads through node1.
type bed struct {
	hosts map[string]*lab.Host
	nodes []*programmedNode
}

// programmedNode is a node with its nftables.
type programmedNode struct {
	*lab.Node
	layout nft.Layout
	tables *nft.Tables
	flows  *conntrack.Table
	state  *ruleset.State
}

const (
	webPort = 8080 // TCP, and UDP answers on it too
	asks    = 40   // connections a row makes: with 3 endpoints one of them is missed once in 10^7 runs
)

var theBed = sync.OnceValues(newBed)

func requireBed(t *testing.T) *bed {
	t.Helper()
	lab.Require(t)
	b, err := theBed()
	if err != nil {
		t.Fatalf("building the test network: %v", err)
	}
	return b
}

func newBed() (*bed, error) {
	network, err := lab.NewNetwork()
	if err != nil {
		return nil, err
	}
	b := &bed{hosts: map[string]*lab.Host{}}
	for range 2 {
		node, err := network.AddNode()
		if err != nil {
			return nil, err
		}
		p := &programmedNode{Node: node}
		if err := errors.Join(p.open(nft.Layout{}), node.Do(func() (err error) { p.flows, err = conntrack.Open(); return err })); err != nil {
			return nil, err
		}
		b.nodes = append(b.nodes, p)
		b.hosts[node.Name] = node.Host
	}
	for _, pod := range []struct {
		name  string
		node  int
		ports []lab.Port
	}{
		{"web1", 0, []lab.Port{lab.TCP(webPort), lab.UDP(webPort)}},
		{"web2", 0, []lab.Port{lab.TCP(webPort), lab.UDP(webPort)}},
		{"web3", 1, []lab.Port{lab.TCP(webPort), lab.UDP(webPort)}},
		{"asker1", 0, nil},
		{"asker2", 1, nil},
	} {
		workload, err := b.nodes[pod.node].AddPod(pod.name, pod.ports...)
		if err != nil {
			return nil, err
		}
		b.hosts[pod.name] = workload.Host
		if err := workload.Do(forgetClosed); err != nil {
			return nil, err
		}
	}
	b.hosts["client"], err = network.AddClient("client", lab.ClientOptions{VIPsVia: b.nodes[0].Node})
	return b, err
}

// forgetClosed makes a host forget a TCP connection once it is closed. Otherwise a client that uses a port
// again, to another address of the same pod, is told so, and opens the connection a second time.
func forgetClosed() error {
	return os.WriteFile("/proc/sys/net/ipv4/tcp_max_tw_buckets", []byte("0"), 0)
}

// open connects to the node's nftables, to write them with this layout.
func (p *programmedNode) open(layout nft.Layout) error {
	if p.tables != nil {
		p.tables.Close()
	}
	p.layout = layout
	return p.Do(func() (err error) { p.tables, err = nft.Open(layout); return err })
}

// serve makes these Services everything that the nodes serve. options change what the nodes take for
// inside the cluster.
func (b *bed) serve(t *testing.T, services ...service) {
	t.Helper()
	b.serveFrom(t, &ruleset.Ranges{Pods: clusterCIDRs(), Inside: clusterCIDRs()}, services...)
}

func clusterCIDRs() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix(lab.ClusterCIDRv4), netip.MustParsePrefix(lab.ClusterCIDRv6)}
}

func (b *bed) serveFrom(t *testing.T, ranges *ruleset.Ranges, services ...service) {
	t.Helper()
	for _, node := range b.nodes {
		// A UDP client may get the source port of one in an earlier test, and with it its flow.
		if err := node.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }); err != nil {
			t.Fatalf("flushing the connections of %s: %v", node.Name, err)
		}
		if node.state = ruleset.NewState(); node.layout.CountConnections {
			node.state = ruleset.NewCountingState()
		}
		change := node.state.Apply(ruleset.Update{Services: b.build(node, services), Ranges: ranges}).Change
		if err := node.tables.Replace(&change); err != nil {
			t.Fatalf("programming %s: %v", node.Name, err)
		}
	}
}

// change commits the difference to these Services, as the agent does when it is told of them.
func (b *bed) change(t *testing.T, services ...service) {
	t.Helper()
	for _, node := range b.nodes {
		change := node.state.Apply(ruleset.Update{Services: b.build(node, services)}).Change
		if err := node.tables.Commit(&change); err != nil {
			t.Fatalf("changing %s: %v", node.Name, err)
		}
		stranded, err := node.tables.Stranded(node.state.Serves)
		for _, clients := range stranded {
			err = errors.Join(err, node.tables.Release(clients))
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := node.flows.DeleteStale(change.UDP, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bed) build(node *programmedNode, services []service) map[types.NamespacedName]*proxy.Service {
	out := map[types.NamespacedName]*proxy.Service{}
	for _, s := range services {
		built := proxy.Build(&s.Service, b.slices(&s), proxy.Node{
			Name: node.Name, NodePortAddresses: []netip.Addr{node.IPv4, node.IPv6}, ExternalIPs: true,
		})
		out[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = &built
	}
	return out
}

// service is a core Service and the pods behind all its ports.
type service struct {
	corev1.Service
	pods []string
	// terminating are pods that still serve.
	terminating []string
}

// newService returns a dual-stack Service "web" on 10.96.0.20 and fd00:10:96::20 with port 80/TCP
// on NodePort 30080 and port 53/UDP on NodePort 30053, in front of these pods.
func newService(pods ...string) service {
	return service{
		Service: corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.20",
				ClusterIPs: []string{"10.96.0.20", "fd00:10:96::20"},
				Ports: []corev1.ServicePort{
					{Name: "http", Port: 80, NodePort: 30080},
					{Name: "dns", Port: 53, NodePort: 30053, Protocol: corev1.ProtocolUDP},
				},
			},
		},
		pods: pods,
	}
}

func (s service) with(change func(*corev1.Service)) service {
	s.Service = *s.Service.DeepCopy()
	change(&s.Service)
	return s
}

// slices returns the EndpointSlices of a Service, one of each family.
func (b *bed) slices(s *service) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, ipv4 := range []bool{true, false} {
		slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv6}
		if ipv4 {
			slice.AddressType = discoveryv1.AddressTypeIPv4
		}
		for i := range s.Spec.Ports {
			port, target := &s.Spec.Ports[i], int32(webPort)
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &port.Name, Protocol: protocolOf(port), Port: &target})
		}
		add := func(pods []string, ready bool) {
			for _, name := range pods {
				terminating, node := !ready, b.nodeOf(name)
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
					Addresses: []string{b.address(name, ipv4).String()}, NodeName: &node,
					Conditions: discoveryv1.EndpointConditions{Ready: &ready, Terminating: &terminating},
				})
			}
		}
		add(s.pods, true)
		add(s.terminating, false)
		out = append(out, slice)
	}
	return out
}

func protocolOf(port *corev1.ServicePort) *corev1.Protocol {
	if port.Protocol == "" {
		return nil
	}
	return &port.Protocol
}

func (b *bed) nodeOf(pod string) string {
	for _, node := range b.nodes {
		if node.PodCIDRv4.Contains(b.address(pod, true)) {
			return node.Name
		}
	}
	return ""
}

// services are the addresses that are no host's: IPv4 and IPv6.
var services = map[string][2]netip.Addr{
	"vip":   {netip.MustParseAddr("10.96.0.20"), netip.MustParseAddr("fd00:10:96::20")},
	"other": {netip.MustParseAddr("10.96.0.21"), netip.MustParseAddr("fd00:10:96::21")},
	"spare": {netip.MustParseAddr("10.96.0.99"), netip.MustParseAddr("fd00:10:96::99")},
	"lb":    {netip.MustParseAddr("10.96.255.7"), netip.MustParseAddr("fd00:10:96::ff07")},
}

func (b *bed) address(name string, ipv4 bool) netip.Addr {
	addresses, ok := services[name]
	if !ok {
		addresses = [2]netip.Addr{b.hosts[name].IPv4, b.hosts[name].IPv6}
	}
	if ipv4 {
		return addresses[0]
	}
	return addresses[1]
}

// What a row may expect instead of endpoints.
const (
	refused = "refused" // at once, by reset or ICMP
	dropped = "dropped" // no answer
	denied  = "denied"  // the kernel tells the node's own socket that the packet was not sent
)

// path is a row of a test table.
type path struct {
	from string
	// to is "vip" for the virtual IP, "other" for that of another Service, "lb" for the load balancer's address, "spare" for a virtual IP no Service has, or a host whose NodePort
	// is meant; then a port and tcp or udp, such as "vip:80/tcp".
	to string
	// want are the pods that answer, or refused, dropped or denied.
	want string
	// source is the host whose address the pods see.
	source string
}

// run makes connections along every path, over IPv4 and IPv6, and compares.
func (b *bed) run(t *testing.T, paths []path) {
	t.Helper()
	for _, ipv4 := range []bool{true, false} {
		family := map[bool]string{true: "IPv4", false: "IPv6"}[ipv4]
		for _, p := range paths {
			t.Run(fmt.Sprintf("%s to %s %s", p.from, p.to, family), func(t *testing.T) {
				want := p.want
				if p.source != "" {
					want += " seeing " + b.address(p.source, ipv4).String()
				}
				if got := b.observe(p, ipv4); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		}
	}
}

func (b *bed) target(to string, ipv4 bool) (network, address string) {
	host, rest, _ := strings.Cut(to, ":")
	port, network, _ := strings.Cut(rest, "/")
	var number int32
	_, _ = fmt.Sscan(port, &number)
	return network, lab.HostPort(b.address(host, ipv4), number)
}

// observe says who answered, and which source address they saw.
func (b *bed) observe(p path, ipv4 bool) string {
	network, address := b.target(p.to, ipv4)
	var pods, sources []string
	for range asks {
		patience := answerBound
		if p.want == dropped {
			patience = silence
		}
		pod, client, err := b.ask(p.from, network, address, patience)
		switch {
		case errors.Is(err, unix.ECONNREFUSED):
			return refused
		case errors.Is(err, unix.EPERM):
			return denied
		case errors.Is(err, context.DeadlineExceeded):
			return dropped
		case err != nil:
			return err.Error()
		}
		pods, sources = append(pods, pod), append(sources, client.Addr().Unmap().String())
	}
	slices.Sort(pods)
	slices.Sort(sources)
	out := strings.Join(slices.Compact(pods), " ")
	if p.source != "" {
		out += " seeing " + strings.Join(slices.Compact(sources), " ")
	}
	return out
}

const (
	// silence is how long no answer must come before a packet counts as dropped.
	silence = 700 * time.Millisecond
	// answerBound is how long an answer may take that should come: a busy machine may lose a packet,
	// and TCP sends it again after a second.
	answerBound = 10 * time.Second
)

// ask returns the pod that answered, and the client's address and port that it saw.
func (b *bed) ask(from, network, address string, patience time.Duration) (pod string, client netip.AddrPort, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if network == "tcp" {
		reply, err := b.hosts[from].AskClient(ctx, address)
		return reply.Pod, reply.Client, err
	}
	answer, err := b.hosts[from].AskUDP(ctx, "udp", address)
	if err != nil {
		return "", client, err
	}
	pod, text, _ := strings.Cut(answer, " ")
	client, err = netip.ParseAddrPort(text)
	return pod, client, err
}
