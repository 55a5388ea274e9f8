package lab

import "fmt"

// This file has every command line of the lab.

const (
	apiServerPort = 6443
	// systemNamespace is where manager and agents have their Leases.
	systemNamespace = "servicegroup-system"
	managerHealth   = "127.0.0.1:8081"
	agentHealth     = "http://127.0.0.1:10256/healthz"
	// Not 10256 and 10249, which are the agent's when both run on a node.
	kubeProxyHealth  = "127.0.0.1:10356"
	kubeProxyMetrics = "127.0.0.1:10349"
	coreDNSReadyPort = 8181

	etcdURL     = "http://127.0.0.1:2379"
	etcdPeerURL = "http://127.0.0.1:2380"
)

func (c *ControlPlane) etcdProgram() (program, error) {
	path, err := kubernetesBinary("etcd")
	return program{
		name: "etcd", path: path, host: c.network.Fabric, dir: c.dir,
		args: []string{
			"--data-dir", c.path("etcd"),
			"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
			"--listen-peer-urls", etcdPeerURL, "--initial-advertise-peer-urls", etcdPeerURL,
			"--initial-cluster", "default=" + etcdPeerURL,
			"--unsafe-no-fsync", // nothing here outlives a crash anyway
			"--log-level", "warn",
		},
	}, err
}

func (c *ControlPlane) apiServerProgram() (program, error) {
	path, err := kubernetesBinary("kube-apiserver")
	fabric := c.network.Fabric
	args := []string{
		"--etcd-servers", etcdURL,
		"--bind-address", fabric.IPv4.String(), "--advertise-address", fabric.IPv4.String(),
		"--secure-port", fmt.Sprint(apiServerPort),
		"--tls-cert-file", c.path("apiserver.crt"), "--tls-private-key-file", c.path("apiserver.key"),
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", c.path("apiserver.key"),
		"--service-account-signing-key-file", c.path("apiserver.key"),
		"--token-auth-file", c.path("tokens.csv"), "--authorization-mode", "RBAC",
		// No controller manager need run to create service accounts, and the lab says itself
		// which nodes are ready.
		"--disable-admission-plugins", "ServiceAccount,TaintNodesByCondition",
		"--service-cluster-ip-range", c.serviceCIDRs(),
		"--allow-privileged",
		"--kubelet-preferred-address-types", "InternalIP", // nobody resolves the nodes' names
	}
	if r := c.options.NodePortRange; r != "" {
		args = append(args, "--service-node-port-range", r)
	}
	if c.options.AuditLog {
		args = append(args, "--audit-log-path", c.AuditLogPath(), "--audit-policy-file", c.path("audit.yaml"))
	}
	return program{
		name: "kube-apiserver", path: path, host: fabric, dir: c.dir,
		args: append(args, c.options.APIServerArgs...), health: c.url() + "/readyz",
	}, err
}

// managerProgram is the project's operator, on the fabric.
func (l *Lab) managerProgram() (program, error) {
	path, err := ProjectBinary()
	return program{
		name: "manager", path: path, host: l.Network.Fabric, dir: l.ControlPlane.dir,
		args: append([]string{
			"manager",
			"--kubeconfig", l.ControlPlane.Kubeconfig(),
			"--leader-elect=false",
			"--lease-namespace=" + systemNamespace,
			"--metrics-bind-address=0",
			"--health-probe-bind-address=" + managerHealth,
		}, l.options.ManagerArgs...),
		health: "http://" + managerHealth + "/readyz",
	}, err
}

// agentProgram is the project's node agent, on a node.
func (l *Lab) agentProgram(node *Node) (program, error) {
	path, err := ProjectBinary()
	return program{
		name: "agent-" + node.Name, path: path, host: node.Host, dir: l.ControlPlane.dir,
		args: append([]string{
			"agent",
			"--kubeconfig", l.ControlPlane.Kubeconfig(),
			"--node-name", node.Name,
			"--cluster-cidr", ClusterCIDRv4 + "," + ClusterCIDRv6,
			"--lease-namespace", systemNamespace,
			"--metrics-secure=false", // tests and benchmarks read them as they are
		}, l.options.AgentArgs...),
		health: agentHealth,
	}, err
}

func (c *ControlPlane) serviceCIDRs() string {
	if c.options.DualStack {
		return ServiceCIDRv4 + "," + ServiceCIDRv6
	}
	return ServiceCIDRv4
}

func (c *ControlPlane) controllerManagerProgram() (program, error) {
	path, err := kubernetesBinary("kube-controller-manager")
	return program{
		name: "kube-controller-manager", path: path, host: c.network.Fabric, dir: c.dir,
		args: []string{
			"--kubeconfig", c.Kubeconfig(),
			"--leader-elect=false",
			"--bind-address", "127.0.0.1", "--secure-port", "10257", "--cert-dir", c.path("kcm"),
			"--service-account-private-key-file", c.path("apiserver.key"),
			"--root-ca-file", c.path("apiserver.crt"),
			// Its usual 20 requests a second would make tests wait for the garbage collector.
			"--kube-api-qps", "500", "--kube-api-burst", "1000",
		},
		health: "https://127.0.0.1:10257/healthz",
	}, err
}

func (c *ControlPlane) kubeProxyProgram(node *Node, mode string) (program, error) {
	path, err := kubernetesBinary("kube-proxy")
	return program{
		name: "kube-proxy-" + node.Name, path: path, host: node.Host, dir: c.dir,
		args: []string{
			"--kubeconfig", c.Kubeconfig(),
			"--hostname-override", node.Name,
			"--proxy-mode", mode,
			"--cluster-cidr", ClusterCIDRv4 + "," + ClusterCIDRv6,
			"--healthz-bind-address", kubeProxyHealth,
			"--metrics-bind-address", kubeProxyMetrics,
			// Only the initial network namespace may change these.
			"--conntrack-max-per-core", "0", "--conntrack-min", "0",
			"--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0",
		},
		health: "http://" + kubeProxyHealth + "/healthz",
	}, err
}

const corefile = "Corefile"

// corefile is the configuration of CoreDNS on the host: the fabric's addresses only, not all.
func (c *ControlPlane) corefile(host *Host) string {
	return fmt.Sprintf(`cluster.local in-addr.arpa ip6.arpa {
	bind %s %s
	errors
	ready %s:%d
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		kubeconfig %s
		pods insecure
		ttl 1
	}
}
`, host.IPv4, host.IPv6, host.IPv4, coreDNSReadyPort, c.Kubeconfig())
}

func (c *ControlPlane) coreDNSProgram(host *Host) (program, error) {
	path, err := kubernetesBinary("coredns")
	return program{
		name: "coredns", path: path, host: host, dir: c.dir,
		args:   []string{"-conf", c.path(corefile)},
		health: fmt.Sprintf("http://%s/ready", HostPort(host.IPv4, coreDNSReadyPort)),
	}, err
}
