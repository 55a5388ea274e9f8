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
