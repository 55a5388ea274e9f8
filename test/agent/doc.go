// Package agent tests the node agent as a process: the real binary on a node of the lab, with a real
// API server, killed, restarted and disturbed by others.
package agent
