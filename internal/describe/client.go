package describe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Client is who connects.
type Client struct {
	// Kind is pod, node or outside.
	Kind string `json:"kind"`
	// Name is that of the pod or node.
	Name string `json:"name,omitempty"`
	// Node is where it runs.
	Node string `json:"node,omitempty"`
	// Addresses are its addresses, of both families where it has both.
	Addresses []netip.Addr `json:"addresses"`
}

// The kinds of clients.
const (
	clientPod     = "pod"
	clientNode    = "node"
	clientOutside = "outside"
)

// FindClient finds who is meant by an address, a pod's name, pod/NAME or node/NAME.
func FindClient(text string, o *Observed) (Client, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return clientAt(addr.Unmap(), o), nil
	}
	kind, name, found := strings.Cut(text, "/")
	if !found {
		kind, name = clientPod, text
	}
	switch kind {
	case "node", "nodes", "no":
		if node := o.Nodes[name]; node != nil {
			return nodeClient(node), nil
		}
		return Client{}, Unknown("node", name, "", nodeNames(o))
	case "pod", "pods", "po":
		var names []string
		for _, pod := range o.Pods {
			if pod.Name == name {
				return podClient(pod)
			}
			names = append(names, pod.Name)
		}
		return Client{}, Unknown("pod", name, o.Group.Namespace, names)
	}
	return Client{}, fmt.Errorf("--from %s: give an address, a pod's name, or node/NAME", text)
}

func nodeNames(o *Observed) []string {
	var names []string
	for name := range o.Nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func podClient(pod *corev1.Pod) (Client, error) {
	c := Client{Kind: clientPod, Name: pod.Name, Node: pod.Spec.NodeName}
	if pod.Spec.HostNetwork { // it speaks as its node does
		c.Kind, c.Name = clientNode, pod.Spec.NodeName
	}
	for _, ip := range pod.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			c.Addresses = append(c.Addresses, addr)
		}
	}
	if len(c.Addresses) == 0 {
		return c, fmt.Errorf("pod %s has no address yet; wait until it runs", pod.Name)
	}
	return c, nil
}

func nodeClient(node *corev1.Node) Client {
	c := Client{Kind: clientNode, Name: node.Name, Node: node.Name}
	for _, address := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(address.Address); err == nil && address.Type == corev1.NodeInternalIP {
			c.Addresses = append(c.Addresses, addr)
		}
	}
	return c
}

// clientAt is who has an address: a pod, a node, or somebody outside.
func clientAt(addr netip.Addr, o *Observed) Client {
	for _, pod := range o.Pods {
		if c, err := podClient(pod); err == nil && slices.Contains(c.Addresses, addr) && c.Kind == clientPod {
			return c
		}
	}
	for _, name := range nodeNames(o) {
		if c := nodeClient(o.Nodes[name]); slices.Contains(c.Addresses, addr) {
			return c
		}
		for _, text := range o.Nodes[name].Spec.PodCIDRs {
			if cidr, err := netip.ParsePrefix(text); err == nil && cidr.Contains(addr) {
				return Client{Kind: clientPod, Node: name, Addresses: []netip.Addr{addr}}
			}
		}
	}
	return Client{Kind: clientOutside, Addresses: []netip.Addr{addr}}
}

// address is the client's address of a family.
func (c *Client) address(ipv4 bool) (netip.Addr, bool) {
	for _, addr := range c.Addresses {
		if addr.Is4() == ipv4 {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// ChooseNode is the node on which a connection arrives: the one asked for, the client's own, or the
// first one.
func ChooseNode(asked string, c Client, o *Observed) (string, error) {
	names := nodeNames(o)
	switch {
	case asked != "" && !slices.Contains(names, asked):
		return "", Unknown("node", asked, "", names)
	case asked != "":
		return asked, nil
	case c.Node != "":
		return c.Node, nil
	case len(names) == 0:
		return "", fmt.Errorf("say with --node where the connection arrives: the nodes cannot be listed")
	}
	return names[0], nil
}
