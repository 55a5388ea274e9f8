// Package trace follows the first packet of a connection through the tables, on paper.
//
// The elements of the tables enter, whether computed from objects by internal/proxy and
// internal/ruleset or read back from a kernel, with what session affinity remembers, and a packet. The
// way it goes leaves: each check it meets with what it finds, the endpoints it may reach and how often,
// and whether its source address is replaced. Two ways can be compared.
//
// The constant part of the tables, which it takes for granted, is internal/nft/layout.go. The package
// is pure.
package trace
