package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// Port is a port a pod serves.
type Port struct {
	// Name of the container port; may be empty.
	Name string
	// Number is the port number.
	Number int32
	// Protocol is TCP (the default) or UDP.
	Protocol corev1.Protocol
}

// TCP and UDP are ports without a name.
func TCP(number int32) Port { return Port{Number: number, Protocol: corev1.ProtocolTCP} }

// UDP is like TCP.
func UDP(number int32) Port { return Port{Number: number, Protocol: corev1.ProtocolUDP} }

// Workload is the network side of a pod: its namespace, its link to the node, and the servers in
// it. There need be no Pod object for it.
type Workload struct {
	*Host
	// Node the pod runs on.
	Node *Node

	number int // on its node
	server *server
}

// AddPod creates a pod on the node that serves the ports; when it returns they listen. TCP ports
// serve HTTP, see [Reply]; UDP ports answer every datagram with "<name> <client address>".
//
// The pod is connected as routing pod networks do: a veth pair with a host route per pod on the
// node and no bridge, so that packets between two pods of one node pass the node's forwarding and
// connection tracking.
func (n *Node) AddPod(name string, ports ...Port) (*Workload, error) {
	n.network.mu.Lock()
	defer n.network.mu.Unlock()
	number, err := n.nextPodNumber()
	if err != nil {
		return nil, fmt.Errorf("adding pod %q: %w", name, err)
	}
	v4, v6 := podAddresses(n.Number, number)
	host, err := newHost(name, v4, v6, nil)
	if err != nil {
		return nil, err
	}
	pod := &Workload{Host: host, Node: n, number: number}
	n.pods[number] = pod
	if err = pod.connect(); err == nil {
		pod.server, err = serve(host, ports)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("adding pod %q: %w", name, err), pod.remove())
	}
	return pod, nil
}

// nextPodNumber does not give a removed pod's number (and with it its addresses) to the next one
// while others are free: packets for the old pod must not find a new one.
func (n *Node) nextPodNumber() (int, error) {
	for range maxPodNumber {
		if n.lastPod++; n.lastPod > maxPodNumber {
			n.lastPod = 2
		}
		if n.pods[n.lastPod] == nil {
			return n.lastPod, nil
		}
	}
	return 0, fmt.Errorf("%s has all the %d pods it has room for", n.Name, maxPodNumber-1)
}

// link is the name of the node's end of the pod's veth pair.
func (w *Workload) link() string { return fmt.Sprintf("veth%d", w.number) }

func (w *Workload) connect() error {
	podMAC, nodeMAC := hardwareAddress(2, w.IPv4), hardwareAddress(1, w.IPv4)
	cable := veth{
		near: w.link(), far: "eth0", nearMAC: nodeMAC, farMAC: podMAC, farNamespace: w.namespace,
	}
	if err := cable.create(w.Node.handle); err != nil {
		return err
	}
	inPod, onNode := wiring{namespace: w.namespace, link: "eth0"}, wiring{namespace: w.Node.namespace, link: w.link()}
	for _, pair := range [][2]netip.Addr{{w.IPv4, w.Node.IPv4}, {w.IPv6, w.Node.IPv6}} {
		pod, node := pair[0], pair[1]
		inPod.addresses = append(inPod.addresses, single(pod))
		inPod.neighbors = append(inPod.neighbors, neighbor{address: node, mac: nodeMAC})
		inPod.routes = append(inPod.routes, route{to: everything(node), gateway: node})
		onNode.neighbors = append(onNode.neighbors, neighbor{address: pod, mac: podMAC})
		onNode.routes = append(onNode.routes, route{to: single(pod), source: node})
	}
	if err := onNode.apply(); err != nil {
		return err
	}
	if err := inPod.apply(); err != nil {
		return err
	}
	return awaitUp(w.Node.handle, w.link())
}

// Drain makes the pod's TCP servers end as well-behaved servers do after SIGTERM: they accept no more
// connections and let requests in progress finish, until ctx ends. Connections that nobody has
// accepted yet are lost, so traffic should have moved elsewhere before.
func (w *Workload) Drain(ctx context.Context) error {
	if err := w.server.http.Shutdown(ctx); err != nil {
		return fmt.Errorf("draining %s: %w", w.Name, err)
	}
	return nil
}

// Remove stops the pod's servers, cutting off their connections, and takes it off the network.
func (w *Workload) Remove() error {
	if w == nil {
		return nil
	}
	w.Node.network.mu.Lock()
	defer w.Node.network.mu.Unlock()
	if w.Node.pods[w.number] != w {
		return nil
	}
	return w.remove()
}

// remove takes the routes away at once and leaves the veth pair to the kernel, which destroys it
// together with the namespace: deleting it here would wait tens of milliseconds for that.
func (w *Workload) remove() error {
	delete(w.Node.pods, w.number)
	var problems []error
	if w.server != nil {
		problems = append(problems, w.server.close())
	}
	problems = append(problems,
		deleteRoutes(w.Node.handle, single(w.IPv4), single(w.IPv6)),
		removeNamespace(w.Name, w.namespace))
	return errors.Join(problems...)
}
