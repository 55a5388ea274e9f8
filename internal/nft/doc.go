// Package nft is the only room that talks to the kernel's nftables.
//
// A ruleset.Change enters and becomes one netlink transaction, which the kernel applies as a whole
// or not at all; elements can be read back. The tables "servicegroup" of family ip and ip6 are the
// only ones it reads or writes. It starts no program and needs no nft on the node, yet whatever it
// writes can be listed by nft, since that is how administrators debug.
//
// The constant part of the tables (layout.go) is encoded with the expressions of
// github.com/google/nftables; elements, the hot path, have an encoder of their own (element.go)
// that does not allocate per element. The package decides nothing about Services.
package nft
