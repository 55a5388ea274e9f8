package plugin

import (
	"fmt"
	"strings"
	"testing"
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
	s.complains(t, 1, []string{"trace", "shop:81", "--from", "visitor"}, "ServiceGroup shop has no port 81; it has http 80/TCP, rpc 9000/TCP")
	s.complains(t, 1, []string{"trace", "shop:80", "--from", "visitors"}, "there is no pod visitors in namespace store; did you mean visitor?")
	s.complains(t, 1, []string{"trace", "shop:80", "--from", "visitor", "--node", "node9"}, "there is no node node9; did you mean node1 or node2?")
	s.complains(t, 2, []string{"trace", "shop", "--from", "visitor"}, "shop: name a ServiceGroup and a port, such as web:80")
	s.complains(t, 2, []string{"trace", "shop:80"}, "say who connects with --from")
	s.complains(t, 2, []string{"trace", "shop:80", "--from", "visitor", "--protocol", "icmp"}, "--protocol icmp: give tcp, udp or sctp")
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
