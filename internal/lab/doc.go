// Package lab is a cluster in a box: a network of nodes, pods and outside clients made of network
// namespaces, a real etcd and kube-apiserver, and the lab itself in the part of the kubelets. Demo,
// tests and benchmarks run in it.
//
// It is built in three layers, each usable without the next:
//
//   - [Enter] moves the process into user, network, mount and pid namespaces of its own. It needs
//     no root, and whatever happens inside, the host's links, rules, sysctls and mounts stay as they
//     are. When the process ends in any way, the kernel takes everything down with it.
//   - [Network] is the fabric: nodes that forward, pods behind routed veth pairs, outside clients.
//     Data-plane tests need no more.
//   - [ControlPlane] is etcd and kube-apiserver, and [Lab] puts both together: Node and Pod objects
//     with honest status, and on request the project's manager and agents, kube-controller-manager,
//     kube-proxy and CoreDNS.
//
// What enters: options, and the binaries of `make tools`. What leaves: hosts to send packets from, a
// *rest.Config and a kubeconfig file.
//
// What it must not do: touch anything outside the namespaces of [Enter] (all its files live on a
// private tmpfs), download anything, import controllers or data-plane packages of this project, or
// sleep where it can wait for a state.
package lab
