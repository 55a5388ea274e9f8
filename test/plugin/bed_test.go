package plugin

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
	"testing"
	"time"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// bound is how long anything may take before a test gives up on it.
const bound = 30 * time.Second

// theLab is the cluster that all tests share: the manager, and two nodes with agents, of which the one
// on node1 counts connections.
var theLab = sync.OnceValues(func() (*lab.Lab, error) {
	ctx := context.Background()
	l, err := lab.Start(ctx, lab.Options{Nodes: 2, Zones: []string{"zone-a", "zone-b"}, Manager: true, AgentArgs: []string{"--v=1"}})
	if err != nil {
		return nil, err
	}
	if _, err := l.StartAgent(ctx, l.Nodes()[0], "--connection-counters"); err != nil {
		return nil, err
	}
	_, err = l.StartAgent(ctx, l.Nodes()[1])
	return l, err
})

func requireLab(t *testing.T) *lab.Lab {
	t.Helper()
	lab.Require(t)
	l, err := theLab()
	if err != nil {
		t.Fatalf("starting the lab: %v", err)
	}
	return l
}

// answer is what a command came to.
type answer struct {
	out, err string
	status   int
}

// kubectl runs the real kubectl, with the plugins of bin on its PATH.
func kubectl(t *testing.T, l *lab.Lab, input string, args ...string) answer {
	t.Helper()
	cmd := kubectlCommand(t, l, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return answer{out: out.String(), err: errOut.String(), status: cmd.ProcessState.ExitCode()}
}

func kubectlCommand(t *testing.T, l *lab.Lab, args ...string) *exec.Cmd {
	t.Helper()
	cmd, err := l.ControlPlane.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	root, err := lab.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "PATH="+filepath.Join(root, "bin")+":"+os.Getenv("PATH"))
	return cmd
}

// must runs kubectl and returns what it prints.
func must(t *testing.T, l *lab.Lab, input string, args ...string) string {
	t.Helper()
	a := kubectl(t, l, input, args...)
	if a.status != 0 {
		t.Fatalf("kubectl %s: status %d\n%s%s", strings.Join(args, " "), a.status, a.out, a.err)
	}
	return a.out
}

// eventually polls until check returns no complaint.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.NewTimer(bound)
	defer deadline.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s: %v", what, err)
		case <-ticker.C:
		}
	}
}

// wants says which of the texts is missing.
func wants(text string, parts ...string) error {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return fmt.Errorf("%q is missing in\n%s", part, text)
		}
	}
	return nil
}
