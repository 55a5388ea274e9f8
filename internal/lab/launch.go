package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// LaunchAgent starts the project's agent on the node and, unlike [Lab.StartAgent], waits for nothing:
// for who measures how long it takes. Close ends it.
func (l *Lab) LaunchAgent(node *Node) (*Process, error) {
	agent, err := l.agentProgram(node)
	if err != nil {
		return nil, err
	}
	return l.ControlPlane.launch(agent)
}

// RunCommand runs a program of the caller's on a host, with that path, arguments and environment besides the
// lab's, as an installation's pod would, and waits until the health endpoint answers. Close ends it.
func (c *ControlPlane) RunCommand(ctx context.Context, host *Host, name string, cmd *exec.Cmd, health string) (*Process, error) {
	return c.run(ctx, program{name: name, path: cmd.Path, args: cmd.Args[1:], env: cmd.Env, host: host, dir: c.dir, health: health})
}

// LaunchKubeProxy is [Lab.StartKubeProxy] without the waiting, and with a minimum period between two
// syncs, which is a second otherwise. It takes whole milliseconds, at least one.
func (l *Lab) LaunchKubeProxy(node *Node, mode string, minSyncPeriod time.Duration) (*Process, error) {
	proxy, err := l.ControlPlane.kubeProxyProgram(node, mode)
	if err != nil {
		return nil, err
	}
	file := l.ControlPlane.path(proxy.name + ".yaml")
	content := fmt.Sprintf(kubeProxyConfiguration, mode, node.Name, l.ControlPlane.Kubeconfig(),
		ClusterCIDRv4, ClusterCIDRv6, kubeProxyHealth, kubeProxyMetrics, minSyncPeriod.Milliseconds())
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration of kube-proxy: %w", err)
	}
	proxy.args = []string{"--config", file, "--hostname-override", node.Name}
	return l.ControlPlane.launch(proxy)
}

// kubeProxyConfiguration says what kubeProxyProgram says by flags; kube-proxy 1.37 has no flag for the
// sync period of nftables.
const kubeProxyConfiguration = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
hostnameOverride: %s
clientConnection: {kubeconfig: %s}
clusterCIDR: "%s,%s"
healthzBindAddress: %s
metricsBindAddress: %s
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: &period {minSyncPeriod: %dms}
nftables: *period
`

// launch starts a program that Close ends, and does not wait until it is ready.
func (c *ControlPlane) launch(p program) (*Process, error) {
	p.health = ""
	return c.run(context.Background(), p)
}
