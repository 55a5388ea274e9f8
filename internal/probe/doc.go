// Package probe watches what is outside the cluster: it looks names up and checks addresses, again and
// again.
//
// What enters: for every owner the names and the targets to watch (Names, Targets). What leaves: what is
// known of them now, and a call for the owner whenever that changes.
//
// Checks and lookups run in two pools of a fixed size (pool), in which namespaces take turns, and within a
// namespace its owners (turns): whoever asks for more than the pool can do waits himself. A check that is
// not under way costs no goroutine.
//
// An owner's watches end when it no longer asks for them, and all of them with the context of Start.
// It must connect to nothing that it was not asked to watch: it follows no redirects and uses no
// proxies. What an address may be used for is not its decision; but it tells nothing of those addresses
// of a name that its options do not allow.
package probe
