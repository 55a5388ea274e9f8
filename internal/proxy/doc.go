// Package proxy is the service-proxy model: what a node serves for one Service.
//
// A core Service, its EndpointSlices and what is known of the node enter; the Service's frontends
// leave, each with the endpoints this node may send it to. Which endpoints count follows kube-proxy
// (pkg/proxy/topology.go of Kubernetes 1.37): readiness, termination, traffic policies and
// topology hints.
//
// The package is pure: no client, clock, context, logger or metric, and the same input gives the
// same output in the same order. It knows nothing of nftables.
package proxy
