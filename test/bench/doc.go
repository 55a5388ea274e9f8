// Command bench measures the node agent and kube-proxy side by side: the same API server, the same
// Services, nodes of the same kind, one after the other. `make bench` runs it.
//
// What enters: the binaries of `make tools` and `make build`, and the environment (see [options]).
// What leaves: a table of medians, spreads and ratios on standard output, and the same with a plot in
// docs/benchmarks.md and docs/benchmarks.svg.
//
// The bed is a lab with one node for each proxy and one machine, the farm, which owns the addresses of
// all endpoints: whatever endpoint a proxy chooses, a server answers there and says which address it
// was asked on. So every Service can be asked, and an answer by an endpoint of another Service is
// found out. Clients are pods on the node of the proxy that is measured.
//
// What it must not do: judge. There is no threshold here; slow is a number. It fails only where
// something does not work: a proxy that ends, never programs a Service (but for a bound on time, which
// is reported as such), or lets the wrong endpoint answer.
package main
