package lab

import (
	"fmt"
)

// This file has every command line of the lab.

const (
	apiServerPort = 6443
	etcdURL       = "http://127.0.0.1:2379"
	etcdPeerURL   = "http://127.0.0.1:2380"
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

func (c *ControlPlane) serviceCIDRs() string {
	if c.options.DualStack {
		return ServiceCIDRv4 + "," + ServiceCIDRv6
	}
	return ServiceCIDRv4
}
