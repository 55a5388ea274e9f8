package stories

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestProgrammed: kubectl can wait until every node serves a ServiceGroup. One agent is held up, and
// the condition says which.
func TestProgrammed(t *testing.T) {
	s := newScene(t, "programmed")
	s.apply("clusterip.yaml")
	s.kubectl("wait", "--for=condition=Programmed", "svcg/my-dep", "--timeout=30s")

	processes := s.ControlPlane.Processes()
	at := slices.IndexFunc(processes, func(p *lab.Process) bool { return p.Name == "agent-node2" })
	if at < 0 {
		t.Fatal("there is no agent on node2")
	}
	if err := processes[at].Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = processes[at].Signal(syscall.SIGCONT) }()
	s.kubectl("patch", "svcg", "my-dep", "--type=json", `--patch=[{"op":"replace","path":"/spec/ports/0/port","value":8001}]`)
	s.awaitCondition("my-dep", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonPending)
	await(t, "the message names the node", s.messageNames("my-dep", "node2"))

	if err := processes[at].Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.awaitCondition("my-dep", v1alpha1.ConditionProgrammed, metav1.ConditionTrue, v1alpha1.ReasonProgrammed)
}

// messageNames checks that the condition Programmed names a node, and no other.
func (s *scene) messageNames(name, node string) func(context.Context) error {
	return func(ctx context.Context) error {
		out, err := s.kubectlCommand(ctx, "", "get", "svcg", name, "-o", `jsonpath={.status.conditions[?(@.type=="Programmed")].message}`)
		if err == nil && (!strings.Contains(out, node) || strings.Contains(out, "node1")) {
			err = fmt.Errorf("it is %q", out)
		}
		return err
	}
}
