package plugin

import (
	"fmt"
	"strings"
	"testing"
)

// ledger is a ServiceGroup of its own, so that the shop keeps its spec. Each test has another name for it.
const ledger = `{apiVersion: net.servicegroup.dev/v1alpha1, kind: ServiceGroup, metadata: {name: %s, namespace: store}, spec: {
  paused: %t, type: NodePort, groups: [{name: web, selector: {matchLabels: {app: web}}}], ports: [{name: http, port: %d%s}]}}`

// accept gives the ledger a port, and waits until that is served as a revision.
func (s *store) accept(t *testing.T, name string, port, revision int) {
	t.Helper()
	must(t, s.Lab, fmt.Sprintf(ledger, name, false, port, ""), "apply", "-f", "-")
	s.served(t, name, port, revision)
}

func (s *store) served(t *testing.T, name string, port, revision int) {
	t.Helper()
	eventually(t, "the revision", func() error {
		return wants(kubectl(t, s.Lab, "", "servicegroup", "-n", "store", "history", name).out, fmt.Sprintf("\n%d ", revision),
			fmt.Sprintf("yes     NodePort  groups web  ports http %d/TCP\n", port))
	})
}

// TestHistoryAndRollback: what was accepted is listed, and comes back as a revision of its own.
func TestHistoryAndRollback(t *testing.T) {
	s := requireStore(t)
	defer kubectl(t, s.Lab, "", "delete", "svcg", "ledger", "-n", "store")
	s.accept(t, "ledger", 81, 1)
	s.complains(t, 1, []string{"rollback", "ledger"}, "ServiceGroup ledger has no revision before the one that is served; there is 1")
	s.accept(t, "ledger", 82, 2)
	s.says(t, []string{"history", "ledger", "--revision", "1"}, "revision 1  ", "spec:\n", "port: 81\n")
	s.says(t, []string{"history", "ledger", "-o", "jsonpath={.revisions[*].revision}"}, "1 2")
	s.says(t, []string{"history", "ledger", "--revision", "2", "-o", "jsonpath={.served} {.spec.ports[0].port}"}, "true 82")
	s.says(t, []string{"rollback", "ledger", "--to-revision", "2"}, "skipped rollback (the spec is that of revision 2 already)")
	for _, flag := range []string{"--dry-run", "--dry-run=client", "--dry-run=server"} {
		s.says(t, []string{"rollback", "ledger", flag}, "rolled back to revision 1 (", " dry run)\nspec:\n", "port: 81\n")
	}
	s.served(t, "ledger", 82, 2)

	viewer := s.actAs(t, "victor", "rolebinding victor-views -n store --clusterrole=servicegroup-viewer")
	s.complains(t, 1, []string{"rollback", "ledger", "--dry-run", "--kubeconfig", viewer}, "updating ServiceGroup ledger: you may not: ", "ask who runs the cluster for the role servicegroup-editor")
	config := s.actAs(t, "edith", "rolebinding edith-edits -n store --clusterrole=servicegroup-editor")
	s.says(t, []string{"rollback", "ledger", "--kubeconfig", config}, "servicegroup.net.servicegroup.dev/ledger rolled back to revision 1\n")
	s.served(t, "ledger", 81, 3)
	for port := range 4 { // five are kept
		s.accept(t, "ledger", 90+port, 4+port)
	}
	eventually(t, "the oldest to go", func() error {
		out := kubectl(t, s.Lab, "", "servicegroup", "-n", "store", "history", "ledger", "-o", "jsonpath={.revisions[*].revision}").out
		if strings.TrimSpace(out) != "3 4 5 6 7" {
			return fmt.Errorf("there is %s", out)
		}
		return nil
	})
	s.complains(t, 1, []string{"rollback", "ledger", "--to-revision", "2"}, "ServiceGroup ledger has no revision 2; there is 3, 4, 5, 6, 7")
}

// TestRollbackOfWhatIsNotServed: a refused spec is taken back, and a paused ServiceGroup stays paused.
func TestRollbackOfWhatIsNotServed(t *testing.T) {
	s := requireStore(t)
	defer kubectl(t, s.Lab, "", "delete", "svcg", "journal", "-n", "store")
	s.accept(t, "journal", 81, 1)
	must(t, s.Lab, fmt.Sprintf(ledger, "journal", false, 82, fmt.Sprintf(", nodePort: %d", s.nodePort)), "apply", "-f", "-")
	must(t, s.Lab, "", "wait", "-n", "store", "svcg/journal", "--for=condition=Accepted=false", "--timeout=20s")
	s.says(t, []string{"status", "journal"}, "Serves     revision 1, not the newest spec", "http 81/TCP", "! Accepted is False (NodePortUnavailable)")
	s.says(t, []string{"history", "journal"}, "yes     NodePort  groups web  ports http 81/TCP", "! the newest spec is not accepted (NodePortUnavailable: ")
	s.complains(t, 1, []string{"rollback", "journal"}, "the newest spec of ServiceGroup journal is not served; --to-revision 1 takes it back")

	must(t, s.Lab, "", "patch", "svcg", "journal", "-n", "store", "--type=merge", "-p", `{"spec":{"paused":true}}`)
	must(t, s.Lab, "", "wait", "-n", "store", "svcg/journal", "--for=condition=Paused", "--timeout=20s")
	s.says(t, []string{"status", "journal"}, "! it is paused: ")
	if err := wants(s.plugin(t, "check").out, "it looks after every ServiceGroup"); err != nil { // its pods do not listen
		t.Error(err)
	}
	a := s.says(t, []string{"rollback", "journal", "--to-revision", "1"}, "rolled back to revision 1\n")
	if err := wants(a.err, "warning: ServiceGroup journal is paused: "); err != nil {
		t.Error(err)
	}
	if paused := must(t, s.Lab, "", "get", "svcg", "journal", "-n", "store", "-o", "jsonpath={.spec.paused} {.spec.ports[0].port}"); paused != "true 81" {
		t.Errorf("it is %s", paused)
	}
	must(t, s.Lab, "", "patch", "svcg", "journal", "-n", "store", "--type=merge", "-p", `{"spec":{"paused":false}}`)
	must(t, s.Lab, "", "wait", "-n", "store", "svcg/journal", "--for=condition=Accepted", "--timeout=20s")
}
