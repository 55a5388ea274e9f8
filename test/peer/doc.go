// Package peer compares what the project does with what Kubernetes does. The agent and kube-proxy serve
// the same Services of random kinds on the same node, one after the other, and must give the same answers
// to the same questions. The operator and kube-controller-manager's EndpointSlice controller must write
// the same endpoints for the same Services and random pods.
//
// SERVICEGROUP_PEER_SEED and SERVICEGROUP_PEER_SERVICES choose other Services than those of every run.
package peer
