// Package conntrack ends UDP flows that destination NAT keeps sending to a pod that no longer serves.
//
// The frontends whose endpoints changed enter, after the change is committed; the flows that lead
// past their present endpoints are deleted from the kernel's connection table, so that their next
// packet chooses anew. TCP needs none of this: its connections end. Flows to other addresses are never
// touched.
package conntrack
