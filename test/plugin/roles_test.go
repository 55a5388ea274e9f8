package plugin

import (
	"path/filepath"
	"strings"
	"testing"
)

// actAs applies the roles shipped, binds them to a user, and returns the kubeconfig of that user.
func (s *store) actAs(t *testing.T, user string, bind ...string) string {
	t.Helper()
	for _, role := range []string{"viewer_role", "editor_role", "debugger_role", "debugger_exec_role"} {
		must(t, s.Lab, "", "apply", "-f", "../../config/rbac/"+role+".yaml")
	}
	for _, binding := range bind {
		args := append([]string{"create", "--dry-run=client", "-o", "yaml", "--user=" + user}, strings.Fields(binding)...)
		must(t, s.Lab, must(t, s.Lab, "", args...), "apply", "-f", "-")
	}
	s.plain(t)
	config, err := s.ControlPlane.KubeconfigAs(user, user)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// TestWhatAViewerMayDo runs every command as a user who has the viewer's role in one namespace and no other.
func TestWhatAViewerMayDo(t *testing.T) {
	s := requireStore(t)
	config := s.actAs(t, "vera", "rolebinding vera-views -n store --clusterrole=servicegroup-viewer")
	as := func(args ...string) []string { return append(args, "--kubeconfig", config) }

	s.says(t, as("status", "shop"), "store/shop  NodePort", "2 of 3 pods ready",
		"Nodes      every agent has programmed this spec", "listing nodes: you may not: ", "ask who runs the cluster for the role servicegroup-debugger")
	watched := watching(t, kubectlCommand(t, s.Lab, as("servicegroup", "-n", "store", "status", "shop", "--watch")...))
	watched.until(t, func(text string) error { return wants(text, "2 of 3 pods ready") })
	watched.interrupt(t)
	s.says(t, as("explain", "shop"), "in   web-1", "out  web-3")
	s.says(t, as("graph", "shop"), "flowchart LR", "web-1")
	s.says(t, as("history", "shop"), "yes     NodePort  groups web, api")
	s.says(t, as("convert", "svc/plain"), "kind: ServiceGroup")
	s.complains(t, 1, as("convert", "svc/shop"), "ServiceGroup shop made this Service; edit that one")
	for _, refused := range []struct {
		command []string
		right   string
	}{
		{[]string{"trace", "shop:80", "--from", "visitor"}, `cannot list resource "pods" in API group "" at the cluster scope`},
		{[]string{"trace", "shop:80", "--from", "visitor", "--agent-namespace", "servicegroup-system"}, `cannot list resource "pods" in API group "" in the namespace "servicegroup-system"`},
		{[]string{"top"}, `cannot list resource "pods" in API group "" at the cluster scope`},
		{[]string{"check"}, `cannot list resource "servicegroups" in API group "net.servicegroup.dev" at the cluster scope`},
		{[]string{"sysdump", "-f", filepath.Join(t.TempDir(), "dump")}, `cannot list resource "pods" in API group "" at the cluster scope`},
	} {
		s.complains(t, 1, as(refused.command...), "you may not: ", `User "vera" `+refused.right, "ask who runs the cluster for the role servicegroup-debugger")
	}
}

// TestWhatADebuggerMayDo runs every command as a user who has the debugger's roles and no other.
func TestWhatADebuggerMayDo(t *testing.T) {
	s := requireStore(t)
	const cluster, agents = "clusterrolebinding dora-debugs --clusterrole=servicegroup-debugger",
		"rolebinding dora-debugs -n servicegroup-system --role=servicegroup-debugger"
	config := s.actAs(t, "dora", cluster, agents)
	as := func(args ...string) []string { return append(args, "--kubeconfig", config) }

	s.says(t, as("trace", "shop:80", "--from", "visitor"), "Kernel of node1: agrees")
	s.says(t, as("top", "--interval", "100ms"), "NAMESPACE")
	s.says(t, as("check"), "connections  all 4 from 2 nodes to 2 ports were answered", "0 failures, 0 warnings")
	if a := s.says(t, as("sysdump", "-f", filepath.Join(t.TempDir(), "dump")), "wrote "); a.err != "" {
		t.Errorf("the dump is not complete: %s", a.err)
	}
	s.says(t, as("status", "shop", "-o", "wide"), "node1  zone-a", "2 of 2 nodes programmed")
	s.says(t, as("explain", "shop"), "in   web-1")
	s.says(t, as("graph", "shop"), "flowchart LR")
	s.says(t, as("convert", "svc/plain"), "kind: ServiceGroup")

	// It is not a right to run commands in other pods, nor to write.
	for _, question := range [][]string{
		{"create", "pods", "--subresource=exec", "-n", "store"}, {"get", "pods", "--subresource=log", "-n", "store"},
		{"get", "secrets", "-n", "servicegroup-system"}, {"patch", "svcg", "-n", "store"},
	} {
		if a := kubectl(t, s.Lab, "", as(append([]string{"auth", "can-i"}, question...)...)...); strings.TrimSpace(a.out) != "no" {
			t.Errorf("may dora %v? %s", question, a.out)
		}
	}
}

// TestAskingTakesTheRoleInTheAgentsNamespace: the ClusterRole alone lets nobody into an agent.
func TestAskingTakesTheRoleInTheAgentsNamespace(t *testing.T) {
	s := requireStore(t)
	config := s.actAs(t, "rita", "clusterrolebinding rita-reads --clusterrole=servicegroup-debugger")
	const refused, remedy = `you may not: pods/exec `, `you cannot create resource "pods/exec" in the namespace "servicegroup-system"; ask who runs the cluster for the role servicegroup-debugger`
	s.complains(t, 1, []string{"trace", "shop:80", "--from", "visitor", "--kubeconfig", config}, "asking the agent of node node1: ", refused, remedy)
	s.complains(t, 1, []string{"top", "--kubeconfig", config}, refused, remedy)
	if a := s.plugin(t, "check", "--kubeconfig", config); a.status != 1 || wants(a.out, "FAIL  node1", refused, remedy) != nil {
		t.Errorf("status %d", a.status)
	}
}
