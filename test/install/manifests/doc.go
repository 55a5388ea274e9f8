// Package manifests makes the objects of an installation, by kustomize as make deploy does, and by the
// Helm SDK as helm does. It writes nothing to a cluster but through a Release.
package manifests
