// Package describe turns what was read of a cluster into what a person wants to know of it.
//
// Objects and the answers of agents enter; values leave that can be printed as JSON, and each has a
// Text method that lays it out for a terminal: the state of a ServiceGroup, why pods are in or out, the
// way of a connection, its picture, its traffic, and the health of the installation. What decides is
// not here but in the rooms that manager and agents use: plan, proxy, ruleset and trace.
//
// The package is pure: it reads nothing and has no clock. The same input gives the same text.
package describe
