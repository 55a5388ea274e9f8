package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const fabricLink = "fabric"

// Network is a set of nodes, pods and outside clients on one fabric. There is at most one in a lab
// at a time. Its methods may be called concurrently.
type Network struct {
	// Fabric is the lab's own network namespace: the bridge every node and client is connected
	// to, the nodes' default gateway, and the place of the control plane.
	Fabric *Host

	handle *netlink.Handle // of the fabric

	mu      sync.Mutex // also serialises changes of links and routes
	nodes   []*Node    // in order of number
	clients []*Host
}

// Node is a machine of the cluster. It forwards between its pods and the fabric.
type Node struct {
	*Host
	// Number counts from 1.
	Number int
	// PodCIDRv4 and PodCIDRv6 are the ranges of the node's pods.
	PodCIDRv4, PodCIDRv6 netip.Prefix

	network *Network
	handle  *netlink.Handle
	lastPod int               // the last pod number given out
	pods    map[int]*Workload // by pod number
}

// NewNetwork creates the fabric, with nothing connected to it.
func NewNetwork() (*Network, error) {
	root, err := rootNamespace()
	if err != nil {
		return nil, err
	}
	v4, v6 := fabricAddresses(fabricNumber)
	if err := createBridge(fabricLink, fabricMAC(v4)); err != nil {
		return nil, err
	}
	handle, err := netlink.NewHandleAt(root, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	network := &Network{Fabric: &Host{Name: fabricLink, IPv4: v4, IPv6: v6, namespace: root}, handle: handle}
	err = wiring{namespace: root, link: fabricLink, addresses: []netip.Prefix{
		fabricPrefix(v4), fabricPrefix(v6),
	}}.apply()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("configuring the fabric: %w", err), network.Close())
	}
	return network, nil
}

// Nodes are the nodes in order of their numbers.
func (n *Network) Nodes() []*Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.nodes)
}

// AddNode adds node1, node2 and so on, at most 200. It can reach every node, every pod and every
// client; what it has no other route for goes to the fabric, which drops it.
func (n *Network) AddNode() (*Node, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	number := len(n.nodes) + 1
	if number > maxNodes {
		return nil, fmt.Errorf("adding a node: the lab has room for %d nodes", maxNodes)
	}
	host, err := n.connect(fmt.Sprintf("node%d", number), number, nodeSysctls)
	if err != nil {
		return nil, err
	}
	node := &Node{Host: host, Number: number, network: n, lastPod: 1, pods: map[int]*Workload{}}
	node.PodCIDRv4, node.PodCIDRv6 = podCIDRs(number)
	n.nodes = append(n.nodes, node)
	if node.handle, err = netlink.NewHandleAt(host.namespace, unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("opening netlink on %s: %w", host.Name, err)
	}
	if err := rejectRest(node.handle, node.PodCIDRv4, node.PodCIDRv6); err != nil {
		return nil, fmt.Errorf("preparing %s: %w", host.Name, err)
	}
	return node, n.connectPodCIDRs(node)
}

// connectPodCIDRs adds the routes to the new node's pods everywhere and to all pods on the new node.
func (n *Network) connectPodCIDRs(added *Node) error {
	own := added.podRoutes()
	err := wiring{namespace: n.Fabric.namespace, link: fabricLink, routes: own}.apply()
	if err != nil {
		return fmt.Errorf("connecting the fabric with the pods of %s: %w", added.Name, err)
	}
	var others []route
	for _, node := range n.nodes {
		if node == added {
			continue
		}
		others = append(others, node.podRoutes()...)
		if err := (wiring{namespace: node.namespace, link: "eth0", routes: own}).apply(); err != nil {
			return fmt.Errorf("connecting %s with the pods of %s: %w", node.Name, added.Name, err)
		}
	}
	others = append(others, defaultRoutes(n.Fabric)...)
	if err := (wiring{namespace: added.namespace, link: "eth0", routes: others}).apply(); err != nil {
		return fmt.Errorf("connecting %s: %w", added.Name, err)
	}
	return nil
}

// podRoutes lead to the node's pods.
func (n *Node) podRoutes() []route {
	return []route{{to: n.PodCIDRv4, gateway: n.IPv4}, {to: n.PodCIDRv6, gateway: n.IPv6}}
}

func defaultRoutes(gateway *Host) []route {
	return []route{
		{to: everything(gateway.IPv4), gateway: gateway.IPv4},
		{to: everything(gateway.IPv6), gateway: gateway.IPv6},
	}
}

// ClientOptions are the routes of an outside client beyond the fabric. Without any it reaches the
// nodes only.
type ClientOptions struct {
	// VIPsVia sends the ClusterIPs to a node, as a router in front of the cluster would.
	VIPsVia *Node
	// Pods routes the pods' addresses to their nodes (those that exist when the client is added).
	Pods bool
}

// AddClient adds a host outside the cluster.
func (n *Network) AddClient(name string, options ClientOptions) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	number := firstClient + len(n.clients)
	if number >= fabricNumber {
		return nil, fmt.Errorf("adding client %q: the lab has room for %d clients", name, fabricNumber-firstClient)
	}
	host, err := n.connect(name, number, nil)
	if err != nil {
		return nil, err
	}
	n.clients = append(n.clients, host)
	var routes []route
	if via := options.VIPsVia; via != nil {
		routes = append(routes,
			route{to: netip.MustParsePrefix(ServiceCIDRv4), gateway: via.IPv4},
			route{to: netip.MustParsePrefix(ServiceCIDRv6), gateway: via.IPv6})
	}
	if options.Pods {
		for _, node := range n.nodes {
			routes = append(routes, node.podRoutes()...)
		}
	}
	if err := (wiring{namespace: host.namespace, link: "eth0", routes: routes}).apply(); err != nil {
		return nil, fmt.Errorf("connecting %s: %w", name, err)
	}
	return host, nil
}

// AddRoute sends an outside client's packets for the prefix to a node, as the router of a
// load-balancer address would.
func (h *Host) AddRoute(to netip.Prefix, via *Node) error {
	gateway := via.IPv4
	if to.Addr().Is6() {
		gateway = via.IPv6
	}
	err := wiring{namespace: h.namespace, link: "eth0", routes: []route{{to: to, gateway: gateway}}}.apply()
	if err != nil {
		return fmt.Errorf("adding a route to %s on %s: %w", to, h.Name, err)
	}
	return nil
}

// connect creates a host and plugs it into the fabric.
func (n *Network) connect(name string, number int, sysctls []string) (*Host, error) {
	v4, v6 := fabricAddresses(number)
	host, err := newHost(name, v4, v6, sysctls)
	if err != nil {
		return nil, err
	}
	cable := veth{
		near: fmt.Sprintf("port%d", number), far: "eth0", bridge: fabricLink,
		nearMAC: hardwareAddress(1, v4), farMAC: fabricMAC(v4), farNamespace: host.namespace,
	}
	err = cable.create(n.handle)
	if err == nil {
		err = wiring{
			namespace: host.namespace, link: "eth0",
			addresses: []netip.Prefix{fabricPrefix(v4), fabricPrefix(v6)},
		}.apply()
	}
	if err == nil {
		err = n.introduce(host)
	}
	if err == nil {
		err = awaitUp(n.handle, cable.near, fabricLink)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connecting %s: %w", name, err), removeNamespace(name, host.namespace))
	}
	return host, nil
}

// fabricMAC is the hardware address of the host with that address on the fabric.
func fabricMAC(v4 netip.Addr) net.HardwareAddr { return hardwareAddress(2, v4) }

// introduce makes the new host and all others on the fabric neighbors.
func (n *Network) introduce(added *Host) error {
	known := append([]*Host{n.Fabric}, n.clients...)
	for _, node := range n.nodes {
		known = append(known, node.Host)
	}
	var all []neighbor
	for _, host := range known {
		all = append(all, host.onFabric()...)
		link := "eth0"
		if host == n.Fabric {
			link = fabricLink
		}
		if err := (wiring{namespace: host.namespace, link: link, neighbors: added.onFabric()}).apply(); err != nil {
			return fmt.Errorf("introducing it to %s: %w", host.Name, err)
		}
	}
	return wiring{namespace: added.namespace, link: "eth0", neighbors: all}.apply()
}

// onFabric is what others on the fabric know of the host.
func (h *Host) onFabric() []neighbor {
	return []neighbor{{h.IPv4, fabricMAC(h.IPv4)}, {h.IPv6, fabricMAC(h.IPv4)}}
}

// newHost creates a host with its loopback up and nothing else.
func newHost(name string, v4, v6 netip.Addr, sysctls []string) (*Host, error) {
	namespace, err := createNamespace(name)
	if err != nil {
		return nil, err
	}
	err = runInNamespace(namespace, func() error {
		return errors.Join(setSysctls(hostSysctls), setSysctls(sysctls))
	})
	if err == nil {
		err = wiring{namespace: namespace, link: "lo"}.apply()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing %s: %w", name, err), removeNamespace(name, namespace))
	}
	return &Host{Name: name, IPv4: v4, IPv6: v6, namespace: namespace}, nil
}

// Close removes everything of the network. The Network is of no use afterwards.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var problems []error
	for _, node := range n.nodes {
		for _, pod := range node.pods {
			problems = append(problems, pod.remove())
		}
		if node.handle != nil {
			node.handle.Close()
		}
		problems = append(problems, n.disconnect(node.Host, node.Number))
	}
	for i, client := range n.clients {
		problems = append(problems, n.disconnect(client, firstClient+i))
	}
	n.nodes, n.clients = nil, nil
	problems = append(problems, deleteLink(n.handle, fabricLink))
	n.handle.Close()
	return errors.Join(problems...)
}

func (n *Network) disconnect(host *Host, number int) error {
	return errors.Join(
		deleteLink(n.handle, fmt.Sprintf("port%d", number)),
		removeNamespace(host.Name, host.namespace))
}
