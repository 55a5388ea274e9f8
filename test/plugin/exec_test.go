package plugin

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

func TestTheLabsAgentsTakeExecAndTellTheirLogs(t *testing.T) {
	l := requireLab(t)
	pod := lab.AgentPod(l.Nodes()[0])
	var dump agentapi.Dump
	out := must(t, l, "", "exec", "-n", "servicegroup-system", pod, "--", "/servicegroup", "agent", "dump", "-o", "json")
	if err := json.Unmarshal([]byte(out), &dump); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if dump.Node.Name != "node1" || dump.Node.Zone != "zone-a" || !dump.LayoutFound || !dump.Synced {
		t.Errorf("dump %+v", dump)
	}
	if a := kubectl(t, l, "", "exec", "-n", "servicegroup-system", pod, "--", "/servicegroup", "agent", "dump", "-o", "xml"); a.status != 1 || !strings.Contains(a.err, "-o xml: give text or json") {
		t.Errorf("status %d: %s", a.status, a.err)
	}
	if logs := must(t, l, "", "logs", "-n", "servicegroup-system", pod, "--tail=1"); strings.Count(logs, "\n") != 1 {
		t.Errorf("the last line of the log: %q", logs)
	}
}
