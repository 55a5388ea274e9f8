package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// ControlPlane is a real etcd and kube-apiserver on a network's fabric, with RBAC, and the CRDs of
// config/crd installed. All its files are on the lab's private tmpfs.
type ControlPlane struct {
	network *Network
	options ControlPlaneOptions
	dir     string
	token   string
	ca      []byte

	apiServer program  // how to start kube-apiserver (again)
	serving   *Process // kube-apiserver; nil while stopped

	mu        sync.Mutex
	processes []*Process // everything else, in order of start
}

// ControlPlaneOptions are what differs between clusters. The zero value is a single-stack (IPv4)
// cluster with the usual NodePort range.
type ControlPlaneOptions struct {
	// DualStack gives Services IPv6 addresses too.
	DualStack bool
	// NodePortRange such as 30000-30010; "" for 30000-32767.
	NodePortRange string
	// AuditLog records every request's metadata in the file [ControlPlane.AuditLogPath], so that a
	// test can count who wrote what.
	AuditLog bool
	// WithoutCRDs leaves the CRDs to whoever installs the project.
	WithoutCRDs bool
	// APIServerArgs are appended to kube-apiserver's command line.
	APIServerArgs []string
}

// StartControlPlane starts etcd and kube-apiserver and waits until they are ready and the CRDs are
// established.
func StartControlPlane(ctx context.Context, network *Network, options ControlPlaneOptions) (*ControlPlane, error) {
	dir, err := os.MkdirTemp("/run", "lab-")
	if err != nil {
		return nil, fmt.Errorf("creating the control plane's folder: %w", err)
	}
	plane := &ControlPlane{network: network, options: options, dir: dir, token: rand.Text()}
	if err := plane.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the control plane: %w", err), plane.Close())
	}
	return plane, nil
}

func (c *ControlPlane) start(ctx context.Context) error {
	if err := c.writeFiles(); err != nil {
		return err
	}
	etcd, err := c.etcdProgram()
	if err != nil {
		return err
	}
	if c.apiServer, err = c.apiServerProgram(); err != nil {
		return err
	}
	// kube-apiserver waits for etcd by itself.
	if _, err := c.run(ctx, etcd); err != nil {
		return err
	}
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	if c.options.WithoutCRDs {
		return nil
	}
	return c.installCRDs(ctx)
}

// writeFiles writes what the command lines refer to.
func (c *ControlPlane) writeFiles() error {
	var err error
	fabric := c.network.Fabric
	c.ca, err = writeCertificate(c.path("apiserver.crt"), c.path("apiserver.key"), fabric.IPv4, fabric.IPv6)
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"tokens.csv": c.token + `,lab-admin,lab-admin,"system:masters"` + "\n",
		"audit.yaml": "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n",
	} {
		if err := os.WriteFile(c.path(name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return c.writeKubeconfig(c.Kubeconfig(), &clientcmdapi.AuthInfo{Token: c.token})
}

// run starts a program that Close ends.
func (c *ControlPlane) run(ctx context.Context, p program) (*Process, error) {
	process, err := p.start(ctx)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.processes = append(c.processes, process)
	}
	return process, err
}

func (c *ControlPlane) path(name string) string { return filepath.Join(c.dir, name) }

func (c *ControlPlane) startAPIServer(ctx context.Context) error {
	process, err := c.apiServer.start(ctx)
	if err != nil {
		return err
	}
	c.serving = process
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		return fmt.Errorf("creating a client: %w", err)
	}
	// A ready server creates the default namespace a moment later.
	return process.await(ctx, func(ctx context.Context) error {
		namespaces := client.CoreV1().Namespaces()
		if _, err := namespaces.Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{}); err != nil {
			return err
		}
		system := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: systemNamespace}}
		if _, err := namespaces.Create(ctx, system, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
			return err
		}
		return nil
	})
}

// StopAPIServer kills kube-apiserver, as in an outage. etcd keeps what it knows.
func (c *ControlPlane) StopAPIServer() error {
	err := c.serving.kill()
	c.serving = nil
	return err
}

// StartAPIServer starts kube-apiserver again after StopAPIServer and waits until it is ready.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	if c.serving != nil {
		return errors.New("starting kube-apiserver: it is running")
	}
	return c.startAPIServer(ctx)
}

// Config is an administrator's client configuration, without a client-side rate limit. Every call
// returns a copy.
func (c *ControlPlane) Config() *rest.Config {
	return &rest.Config{
		Host:            c.url(),
		BearerToken:     c.token,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca},
		QPS:             -1,
	}
}

func (c *ControlPlane) url() string {
	return "https://" + HostPort(c.network.Fabric.IPv4, apiServerPort)
}

// Dir is the folder of the control plane's files and logs, on the lab's private /run.
func (c *ControlPlane) Dir() string { return c.dir }

// AuditLogPath is the file with one JSON object per request, when AuditLog was asked for.
func (c *ControlPlane) AuditLogPath() string { return c.path("audit.log") }

// Processes are the programs that were started and are not kube-apiserver, in order of start.
func (c *ControlPlane) Processes() []*Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.processes)
}

// Servers are etcd and kube-apiserver, which must be running.
func (c *ControlPlane) Servers() []*Process { return []*Process{c.Processes()[0], c.serving} }

// Close ends every program the control plane started, the last one first, and deletes its files.
func (c *ControlPlane) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var problems []error
	// Nobody will miss the state, so the API server and etcd, which is the first, need not put it
	// in order.
	for i, process := range slices.Backward(c.processes) {
		if i == 0 {
			problems = append(problems, c.serving.kill(), process.kill())
			break
		}
		problems = append(problems, process.Stop())
	}
	c.serving, c.processes = nil, nil
	return errors.Join(append(problems, os.RemoveAll(c.dir))...)
}
