package dataplane

import (
	"context"
	"fmt"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/nft"
)

// neighbour makes a node have a chain of another program's, registered after ours, with this rule.
func (p *programmedNode) neighbour(t *testing.T, ipv4 bool, hook, rule string) {
	t.Helper()
	table := map[bool]string{true: "ip neighbour", false: "ip6 neighbour"}[ipv4]
	run := func(command string) {
		t.Helper()
		if output, err := p.Output(t.Context(), "nft", command); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, output)
		}
	}
	run("add table " + table)
	t.Cleanup(func() { _, _ = p.Output(context.Background(), "nft", "delete table "+table) })
	run(fmt.Sprintf("add chain %s it { type %s; policy accept; }; add rule %s it %s", table, hook, table, rule))
}

// TestOthersAtOurHooks has another program's chain at each of our hooks and priorities: of one priority, the
// chain that was registered last goes first, and the first one that translates ends the hook.
func TestOthersAtOurHooks(t *testing.T) {
	b := requireBed(t)
	node := b.nodes[0]
	if err := node.open(nft.Layout{CountConnections: true}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := node.open(nft.Layout{}); err != nil {
			t.Fatal(err)
		}
	}()
	for _, test := range []struct {
		hook, rule    string
		pod, from, to string
		want          string
	}{
		{"nat hook postrouting priority srcnat", "masquerade", "web3", "asker1", "vip:80/tcp", "web3"},
		{"nat hook postrouting priority srcnat", "masquerade", "web3", "node1", "vip:53/udp", "web3"},
		// The node does not listen, and answers all the same: the packet has gone all the way.
		{"nat hook input priority 100", "snat to %s", "node1", "asker1", "vip:80/tcp", refused},
		{"nat hook prerouting priority dstnat", "tcp dport 7 redirect to :9", "web1", "asker1", "vip:80/tcp", "web1"},
		{"nat hook output priority -100", "tcp dport 7 redirect to :9", "web1", "node1", "vip:80/tcp", "web1"},
		{"filter hook forward priority -90", "accept", "web1", "asker1", "vip:80/tcp", "web1"},
		{"filter hook output priority -90", "accept", "web1", "node1", "vip:80/tcp", "web1"},
	} {
		for _, ipv4 := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s from %s IPv4=%v", test.hook, test.from, ipv4), func(t *testing.T) {
				b.serve(t, sticky(60, test.pod))
				rule := test.rule
				if test.want == refused {
					rule = fmt.Sprintf(rule, b.address("client", ipv4))
				}
				node.neighbour(t, ipv4, test.hook, rule)
				network, address := b.target(test.to, ipv4)
				if pod, _, err := b.ask(test.from, network, address, answerBound); err == nil && pod != test.want || err != nil && refusedOr(err) != test.want {
					t.Errorf("%q answers (%v), want %q", pod, err, test.want)
				}
				sessions, err := node.tables.Sessions()
				if err != nil {
					t.Fatal(err)
				}
				if len(sessions.Clients) != 1 {
					t.Errorf("session affinity has %v, want one client", sessions.Clients)
				}
				counts, err := node.tables.Connections()
				if err != nil {
					t.Fatal(err)
				}
				var sum uint64
				for _, c := range counts {
					sum += c.Connections
				}
				if sum != 1 {
					t.Errorf("%d connections are counted, want 1", sum)
				}
				network, address = b.target("vip:81/tcp", ipv4)
				if _, _, err := b.ask(test.from, network, address, answerBound); err == nil || refusedOr(err) != refused {
					t.Errorf("a port without a Service answers %v, want %s", err, refused)
				}
			})
		}
	}
}
