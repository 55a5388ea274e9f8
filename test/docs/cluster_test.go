package docs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// bound is how long a block may take.
const bound = time.Minute

// cluster is what the readers of all pages share.
type cluster struct {
	*lab.Lab
	root    string
	objects client.Client
	hosts   map[string]*lab.Host // by name
	base    []string             // environment of a shell
}

var theCluster = sync.OnceValues(func() (*cluster, error) {
	l, err := lab.Start(context.Background(), lab.Options{
		ControlPlaneOptions: lab.ControlPlaneOptions{DualStack: true},
		Nodes:               2,
		Manager:             true, Agents: true,
		ControllerManager: true, Kubelets: true,
		ManagerArgs: []string{"--leader-elect", "--leader-elect-namespace=servicegroup-system", "--pprof-bind-address=127.0.0.1:6060"},
		AgentArgs:   []string{"--connection-counters"},
	})
	if err != nil {
		return nil, err
	}
	c := &cluster{Lab: l, hosts: map[string]*lab.Host{}}
	if c.root, err = lab.ModuleRoot(); err != nil {
		return nil, err
	}
	if c.objects, err = client.New(l.ControlPlane.Config(), client.Options{}); err != nil {
		return nil, err
	}
	if c.hosts["client"], err = l.Client("client"); err != nil {
		return nil, err
	}
	for _, node := range l.Nodes() {
		c.hosts[node.Name] = node.Host
	}
	if c.base, err = c.environment(); err != nil {
		return nil, err
	}
	return c, c.install(context.Background())
})

// install applies the objects that an installation has besides the programs, which run already.
func (c *cluster) install(ctx context.Context) error {
	_, err := c.bash(ctx, shell{host: c.Network.Fabric, dir: c.root, env: c.base}, "kubectl apply --server-side --force-conflicts -k config/default && "+
		"kubectl wait --for=condition=Established crd/servicegroups.net.servicegroup.dev")
	return err
}

// installAgain does so after somebody removed it, and starts the manager anew.
func (c *cluster) installAgain(ctx context.Context) error {
	for _, process := range c.ControlPlane.Processes() {
		if process.Name == "manager" {
			_ = process.Signal(syscall.SIGTERM) // it may have ended already
			<-process.Ended()
		}
	}
	if err := c.install(ctx); err != nil {
		return err
	}
	_, err := c.StartManager(ctx)
	return err
}

// environment is what a reader's shell finds programs by. Some have stand-ins in testdata/bin.
func (c *cluster) environment() ([]string, error) {
	path := strings.Join([]string{
		filepath.Join(c.root, "test", "docs", "testdata", "bin"), filepath.Join(c.root, "bin"),
		os.Getenv("KUBEBUILDER_ASSETS"), filepath.Join(c.root, "bin", "k8s"), os.Getenv("PATH"), "/usr/sbin", "/sbin",
	}, ":")
	makePath, makeErr := exec.LookPath("make")
	goPath, goErr := exec.LookPath("go")
	if err := errors.Join(makeErr, goErr); err != nil {
		return nil, err
	}
	kubectl, err := c.ControlPlane.Kubectl(context.Background())
	if err != nil {
		return nil, err
	}
	return append(kubectl.Env, "PATH="+path, "ROOT="+c.root, "REAL_MAKE="+makePath, "REAL_GO="+goPath, "REAL_KUBECTL="+kubectl.Path,
		"GOFLAGS=-trimpath", "CGO_ENABLED=0"), nil
}

// shell is where a script runs.
type shell struct {
	host *lab.Host
	dir  string
	env  []string
}

// command is a script with all that it starts, which ends together.
func (in shell) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = in.dir, in.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for what goes on in the background
	return cmd
}

// bash runs a script and returns what it prints.
func (c *cluster) bash(ctx context.Context, in shell, script string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	cmd := in.command(ctx, script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := in.host.Start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // fails where nothing is left
	if err != nil {
		return out.String(), fmt.Errorf("%w\n%s\n%s", err, script, out.String())
	}
	return out.String(), nil
}

func requireCluster(t *testing.T) *cluster {
	t.Helper()
	lab.Require(t)
	c, err := theCluster()
	if err != nil {
		t.Fatalf("starting the cluster: %v", err)
	}
	return c
}
