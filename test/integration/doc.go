// Package integration tests the operator against a real API server.
//
// One etcd and one kube-apiserver serve the whole suite, and one manager that has exactly the
// rights of config/rbac/role.yaml: a right too few fails a test. Every test has a namespace of its
// own and plays kubelet and user itself; nothing else runs, so there are no garbage collector and
// no EndpointSlice controller of the cluster's. Tests wait for what they expect with a bound, and
// never sleep to be on the safe side.
//
// The binaries come from $KUBEBUILDER_ASSETS, or from bin/k8s of the module.
package integration
