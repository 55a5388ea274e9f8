package main

import (
	"context"
	"fmt"
	"time"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// The proxies, as the table calls them.
const (
	nameAgent    = "servicegroup agent"
	nameNFTables = "kube-proxy nftables"
	nameIPTables = "kube-proxy iptables"
)

// contender is a proxy that is measured.
type contender struct {
	name string
	// tool is the program it cannot do without.
	tool     string
	iptables bool
	launch   func(*lab.Node) (*lab.Process, error)
	// metrics is where it serves its metrics; syncs and changes are its histograms of all syncs,
	// and of those for a change.
	metrics        string
	syncs, changes series

	node   *lab.Node
	client *lab.Host
	// gaveUp is set when it could not program a size in time: it will not be asked for a larger one.
	gaveUp bool
}

func contenders(l *lab.Lab) []*contender {
	const kubeProxyMetrics = "http://127.0.0.1:10349/metrics"
	kubeProxy := func(name, mode, tool string) *contender {
		return &contender{
			name: name, tool: tool, iptables: mode == "iptables",
			launch: func(node *lab.Node) (*lab.Process, error) {
				// It syncs once a second unless told otherwise, which is a setting and not its speed.
				return l.LaunchKubeProxy(node, mode, time.Millisecond)
			},
			metrics: kubeProxyMetrics,
			syncs:   series{"kubeproxy_sync_proxy_rules_duration_seconds", `ip_family="IPv4"`},
			changes: series{"kubeproxy_sync_proxy_rules_duration_seconds", `ip_family="IPv4"`},
		}
	}
	return []*contender{
		{
			name:    nameAgent,
			launch:  l.LaunchAgent,
			metrics: "http://127.0.0.1:10249/metrics",
			syncs:   series{"servicegroup_agent_sync_duration_seconds", ""},
			changes: series{"servicegroup_agent_sync_duration_seconds", `kind="change"`},
		},
		kubeProxy(nameNFTables, "nftables", "nft"),
		kubeProxy(nameIPTables, "iptables", "iptables-restore"),
	}
}

// flush empties the node's packet filter and forgets its connections. Where iptables is a front end
// of nftables its rules go with the rest; for the older kind they are replaced by none.
func (c *contender) flush(ctx context.Context) error {
	if _, err := c.node.Output(ctx, "nft", "flush", "ruleset"); err != nil {
		return fmt.Errorf("emptying the packet filter: %w", err)
	}
	if c.iptables {
		for _, table := range []string{"nat", "filter", "mangle"} {
			rules := fmt.Sprintf("printf '*%s\\nCOMMIT\\n' | iptables-restore", table)
			if _, err := c.node.Output(ctx, "sh", "-c", rules); err != nil {
				return fmt.Errorf("emptying iptables: %w", err)
			}
		}
	}
	return c.forgetConnections()
}
