// Package peer compares what the agent does with what kube-proxy does: both serve the same Services of
// random kinds on the same node, one after the other, and must give the same answers to the same
// questions.
//
// SERVICEGROUP_PEER_SEED and SERVICEGROUP_PEER_SERVICES choose other Services than those of every run.
package peer
