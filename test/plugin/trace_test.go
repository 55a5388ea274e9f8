package plugin

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

func TestTrace(t *testing.T) {
	s := requireStore(t)
	s.says(t, []string{"trace", "shop:80", "--from", "visitor"},
		"store/shop  "+s.vip+":80 tcp  (virtual IP of http 80/TCP)", "(pod visitor on node node1)", "one of 2 is drawn",
		"50.0 %  10.244.", "not ready", "no: the endpoint sees the client's address", "Kernel of node1: agrees")
	s.says(t, []string{"trace", "shop:http", "--from", "198.51.100.7", "--node", "node2"},
		fmt.Sprintf("192.168.100.2:%d tcp  (NodePort of http 80/TCP)", s.nodePort), "outside the cluster", "yes: ", "Kernel of node2: agrees")
	s.says(t, []string{"trace", fmt.Sprintf("shop:%d", s.nodePort), "--from", "node/node1", "-o", "json"}, `"kind": "Trace"`, `"agrees": true`)
	s.says(t, []string{"trace", "shop:80", "--from", s.web[0].IPv4.String()}, "the endpoint is the client itself (hairpin)")
}

// TestTraceShowsThatTheKernelDiffers takes an endpoint out of the kernel again and again: the agent puts
// it right, at most once a second.
func TestTraceShowsThatTheKernelDiffers(t *testing.T) {
	s := requireStore(t)
	node := s.Nodes()[0]
	tamper := func() { // fails when it is done already
		_, _ = node.Output(t.Context(), "nft", fmt.Sprintf("delete element ip servicegroup endpoints { %s . tcp . 80 . 1 }", s.vip))
	}
	var seen answer
	eventually(t, "a trace that differs", func() error {
		tamper()
		tamper()
		seen = kubectl(t, s.Lab, "", "servicegroup", "-n", "store", "trace", "shop:80", "--from", "visitor")
		if seen.status != 1 {
			return fmt.Errorf("status %d", seen.status)
		}
		return nil
	})
	t.Log(seen.out)
	if err := wants(seen.out, "Kernel of node1: differs", "should be among the choices and is not",
		"missing endpoints: "+s.vip+":80 tcp -> ", "somebody else has changed the tables"); err != nil || seen.err != "" {
		t.Errorf("%v\n%s", err, seen.err)
	}
	eventually(t, "the repair", func() error {
		if a := kubectl(t, s.Lab, "", "servicegroup", "-n", "store", "trace", "shop:80", "--from", "visitor"); a.status != 0 || !strings.Contains(a.out, "agrees") {
			return fmt.Errorf("still\n%s", a.out)
		}
		return nil
	})
}

// TestANodePortThatIsLeftToAProcess: a process of the node that listens first keeps its port.
func TestANodePortThatIsLeftToAProcess(t *testing.T) {
	s := requireStore(t)
	listener, err := s.Nodes()[0].Listen("tcp", ":30555")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	const late = `apiVersion: net.servicegroup.dev/v1alpha1
kind: ServiceGroup
metadata: {name: late, namespace: store}
spec:
  type: NodePort
  groups: [{name: web, selector: {matchLabels: {app: web}}}]
  ports: [{port: 80, targetPort: 8080, nodePort: 30555}]
`
	must(t, s.Lab, late, "apply", "-f", "-")
	defer must(t, s.Lab, "", "delete", "-n", "store", "svcg,service", "late") // nobody collects garbage here
	must(t, s.Lab, "", "wait", "-n", "store", "svcg/late", "--for=condition=Programmed", "--timeout=20s")
	trace := func(node string) string {
		return s.plugin(t, "trace", "late:30555", "--from", "198.51.100.7", "--node", node).out
	}
	eventually(t, "the agents", func() error {
		return wants(trace("node1"), "a process of the node listened there first", "Untouched", "Kernel of node1: agrees")
	})
	if err := wants(trace("node2"), "Sent to one of 2 endpoints", "Kernel of node2: agrees"); err != nil {
		t.Error(err)
	}
	s.says(t, []string{"check"}, "a process of the node listens on 192.168.100.1:30555/tcp, so that NodePort is left to it", "0 failures, 1 warning")
}

// TestTraceKnowsWhomTheKernelRemembers: with session affinity the way depends on where the client was before.
func TestTraceKnowsWhomTheKernelRemembers(t *testing.T) {
	s := requireStore(t)
	const sticky = `apiVersion: net.servicegroup.dev/v1alpha1
kind: ServiceGroup
metadata: {name: sticky, namespace: store}
spec:
  type: NodePort
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}
  groups: [{name: web, selector: {matchLabels: {app: web}}}]
  ports:
  - {name: first, port: 80, targetPort: 8080}
  - {name: second, port: 81, targetPort: 8080}
`
	must(t, s.Lab, sticky, "apply", "-f", "-")
	defer must(t, s.Lab, "", "delete", "-n", "store", "svcg,service", "sticky") // nobody collects garbage here
	must(t, s.Lab, "", "wait", "-n", "store", "svcg/sticky", "--for=condition=Programmed", "--timeout=20s")
	vip := must(t, s.Lab, "", "get", "-n", "store", "service", "sticky", "-o", "jsonpath={.spec.clusterIP}")
	trace := func(port string, more ...string) []string {
		return append([]string{"trace", "sticky:" + port, "--from", "visitor"}, more...)
	}
	s.says(t, trace("second"), "ClientIP: not remembered: drawn anew, and then kept for 600 s", "Sent to one of 2", "Kernel of node1: agrees")

	answer, err := s.visitor.Ask(t.Context(), "tcp", vip+":81")
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(s.web, func(pod *lab.Pod) bool { return pod.Host.Name == answer })
	if at < 0 {
		t.Fatalf("%s answered", answer)
	}
	kept := s.web[at].IPv4.String() + ":8080"
	for _, more := range [][]string{nil, {"--address", s.Nodes()[0].IPv4.String()}} {
		out := s.says(t, trace("second", more...), " s more: goes to "+kept, "Sent to the endpoint that the client had before", "100.0 %  "+kept,
			"the client keeps another one", "Kernel of node1: agrees").out
		if !regexp.MustCompile(`remembered for (59\d|600|5[0-8]\d) s more`).MatchString(out) {
			t.Errorf("not for nearly 600 seconds:\n%s", out)
		}
	}
	s.says(t, trace("second", "-o", "jsonpath={.way.remembered.endpoint.address}"), s.web[at].IPv4.String())
	s.says(t, trace("first"), "not remembered")                     // another port
	s.says(t, trace("second", "--node", "node2"), "not remembered") // another kernel
	dump := []string{"exec", "-n", "servicegroup-system", lab.AgentPod(s.Nodes()[0]), "--", "/servicegroup", "agent", "dump", "--client"}
	if out := must(t, s.Lab, "", append(dump, s.visitor.IPv4.String())...); !strings.Contains(out, s.visitor.IPv4.String()+" -> "+kept+" for ") {
		t.Errorf("the agent dumps\n%s", out)
	}
	if out := must(t, s.Lab, "", append(dump, "192.0.2.1")...); !strings.Contains(out, "remembers none of [192.0.2.1]") {
		t.Errorf("the agent dumps\n%s", out)
	}
	if a := kubectl(t, s.Lab, "", append(dump, "me")...); a.status != 1 || !strings.Contains(a.err, "--client me: give an IP address") {
		t.Errorf("status %d: %s", a.status, a.err)
	}

	// Somebody writes an endpoint into the kernel that is none.
	out, err := s.Nodes()[0].Output(t.Context(), "bash", "-c", fmt.Sprintf(`set -e
nft list map ip servicegroup affinity | grep -o '%[1]s . [^ ]* ' | while read -r key; do
  nft "delete element ip servicegroup affinity { $key }"
  nft "add element ip servicegroup affinity { $key timeout 300s : 10.244.9.9 . 8080 }"
done`, s.visitor.IPv4))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	a := s.plugin(t, trace("second")...)
	if err := wants(a.out, "Kernel of node1: differs", "the client keeps 10.244.9.9:8080 for ", "nft flush map ip servicegroup affinity"); err != nil || a.status != 1 {
		t.Errorf("status %d, %v", a.status, err)
	}
}
