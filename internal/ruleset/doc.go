// Package ruleset turns frontends into elements of the constant nftables maps, and a change of
// frontends into the smallest set of element writes.
//
// Services as the proxy model gives them enter; a Change leaves: elements to delete and to add, and
// the chains that come and go with them. A State remembers what was committed. Endpoints sit in
// numbered slots of their frontend: adding one fills the next slot, removing one moves the last
// into the hole, so a change writes a few elements whatever the number of endpoints or Services.
//
// The package is pure: it neither talks to the kernel nor knows how an element is encoded; that is
// internal/nft. The same sequence of inputs gives the same writes. The layout of the maps is drawn
// in internal/nft/layout.go.
package ruleset
