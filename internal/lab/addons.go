package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// StartControllerManager starts kube-controller-manager on the fabric and waits until it is ready.
// Controllers that would judge the lab's nodes are off, unless the arguments name --controllers.
func (l *Lab) StartControllerManager(ctx context.Context, args ...string) (*Process, error) {
	controllers, err := l.ControlPlane.controllerManagerProgram()
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--controllers") }) {
		// The lab's nodes send no heartbeats, so nobody may declare them dead. The flag would add up.
		args = append(args, "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller")
	}
	controllers.args = append(controllers.args, args...)
	return l.ControlPlane.run(ctx, controllers)
}

// StartKubeProxy starts kube-proxy on the node, in mode iptables or nftables, with these arguments
// besides the lab's, and waits until it calls itself healthy, which it does before its first sync. It uses
// the host's iptables or nft program.
func (l *Lab) StartKubeProxy(ctx context.Context, node *Node, mode string, args ...string) (*Process, error) {
	tool, debian := "nft", "nftables"
	if mode == "iptables" {
		tool, debian = "iptables", "iptables"
	}
	if _, err := exec.LookPath(tool); err != nil {
		return nil, fmt.Errorf("kube-proxy in mode %s needs %s: install the package %s", mode, tool, debian)
	}
	proxy, err := l.ControlPlane.kubeProxyProgram(node, mode)
	if err != nil {
		return nil, err
	}
	proxy.args = append(proxy.args, args...)
	return l.ControlPlane.run(ctx, proxy)
}

// StartCoreDNS starts CoreDNS with the kubernetes plugin on a host (the fabric, or a pod) and waits
// until it has synced. It answers on port 53 of the host's addresses for cluster.local.
func (l *Lab) StartCoreDNS(ctx context.Context, host *Host) (*Process, error) {
	dns, err := l.ControlPlane.coreDNSProgram(host)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(l.ControlPlane.path(corefile), []byte(l.ControlPlane.corefile(host)), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration of CoreDNS: %w", err)
	}
	process, err := l.ControlPlane.run(ctx, dns)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.dns = host
	}
	return process, err
}

// Resolver looks names up in CoreDNS, from a host of the lab. Names are absolute: end them with a
// dot, or the machine's own search domains are tried.
func (l *Lab) Resolver(from *Host) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		l.mu.Lock()
		dns := l.dns
		l.mu.Unlock()
		if dns == nil {
			return nil, fmt.Errorf("looking a name up: CoreDNS was not started")
		}
		return from.Dial(ctx, network, HostPort(dns.IPv4, 53))
	}}
}
