// Package image runs make image, which pushes to a registry of the test's own, reads what came out, and runs it
// with the rights that a pod gives its container. It needs no daemon and no network: buildah builds and crun
// runs, inside the lab's namespaces, with everything in one folder.
//
// The one thing that is not as in a release is the compiler's image, which would have to be downloaded: a
// stand-in of the same name has this machine's Go toolchain, shell and caches in it.
package image
