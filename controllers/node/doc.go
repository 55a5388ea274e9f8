// Package node is the node-side controller: it keeps the nftables of one node equal to the Services
// and EndpointSlices of the cluster.
//
// Watch events enter and mark Services as changed; one loop takes what is marked, builds the proxy
// model of just these Services, computes the change of map elements and commits it in one netlink
// transaction. Events that arrive during a commit are taken together by the next one, so there is no
// minimum period to wait for. Nothing is written before every informer has synced. After a failed
// transaction everything is built and written anew, with growing pauses.
//
// The package reads the API and writes nothing there but a Lease of the node's own, which says what
// has been programmed. What is decided about endpoints is in
// internal/proxy, what is written for it in internal/ruleset, and how in internal/nft.
package node
