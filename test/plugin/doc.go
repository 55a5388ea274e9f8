// Package plugin tests the kubectl plugin as its users have it: the real binary, found by the real
// kubectl, against a cluster of the lab whose agents it reaches by exec through the real API server.
package plugin
