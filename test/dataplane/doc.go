// Package dataplane tests what happens to real packets: the rules that the node agent writes, in the
// real kernel, between nodes, pods and clients that are network namespaces.
//
// The Services and EndpointSlices of a test go through the agent's own pure rooms and its netlink
// encoder; there is no API server, so a test takes milliseconds. Each table row names a source, a
// destination, the endpoints that may answer, and the source address they must see.
package dataplane
