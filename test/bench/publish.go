package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// publish writes the table and the plot to docs.
func (r *report) publish(o options) error {
	root, err := lab.ModuleRoot()
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"benchmarks.md":  r.page(o),
		"benchmarks.svg": r.plot(),
	} {
		if err := os.WriteFile(filepath.Join(root, "docs", name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("publishing the table: %w", err)
		}
	}
	return nil
}

func (r *report) page(o options) string {
	return fmt.Sprintf(pageFormat, time.Now().UTC().Format(time.DateOnly), describeMachine(), r.rows().markdown(),
		o.rounds, endpointsEach, o.bound, sampled, askInterval, o.changes, o.slowChanges, o.changeBudget, clients, o.turns, o.turn)
}

// pageFormat is docs/benchmarks.md.
const pageFormat = `<!-- Written by make bench. -->
# Benchmarks

The node agent (--mode=all) and kube-proxy, one after the other, on the same API server, the same Services and nodes of
the same kind. ` + "`make bench`" + ` prints this table for your machine and rewrites this page; ` + "`BENCH=quick make bench`" + ` is a smoke
run that writes nothing. Ratios say how many times better the agent is; figures of one run on one machine, to compare
within a row and not with other machines. Measured on %s:

` + "```" + `
%s` + "```" + `

![The agent and kube-proxy side by side](benchmarks.svg)

%s
## How it is measured

- Figures are medians of %d starts of the proxy (connections: of the turns), with lowest and highest in parentheses; (n=...) is the number of changes
  that a percentile is over. Every Service has %d endpoints. A proxy that has not programmed everything after %s is given
  up, which the table says, and is not measured at larger sizes.
- **Cold** begins with the start of the process on a node without rules and ends when %d Services spread over all,
  the last one first, were each answered by an endpoint of theirs; they are asked every %s. So it has the reading of all
  objects from the API server in it. The proxy's own sync time, from its metrics, has not.
- **CPU time** and memory are those of the process when everything is programmed, from /proc; memory also when all changes
  were made and what the start left behind is gone. CPU time includes child processes (nft, iptables-restore), memory does
  not.
- **One of ten endpoints changed** is by the proxy's own metrics, a change at a time and with no other load; %d changes, or
  at least %d where they take longer than %s.
- **API write to first answer** is seen from outside, at a Service with one endpoint, which a write exchanges.
- kube-proxy runs with a minimum sync period of 1 ms, which favours it: by default it syncs once a second at most, so that a
  change behind another waits up to a second longer than the table says. All else is its default.
- **Connections** are made by %d clients at a time, to all Services in turn, from a pod on the proxy's node to endpoints on
  another machine; the client waits for the answer and ends the connection by a reset. The proxies take turns, %d of
  %s each, so that others' work on the machine hits all alike. Their ratio is the median of the turns' ratios, with the
  bounds that have the true one between them in 95 of 100 cases. CPU time per connection is that of client, server and
  the kernel's work for their packets.
- Every answer names the endpoint; one that is not the Service's fails the run.
`
