// Package stories plays what people do with Services today, and what only a ServiceGroup does, on a
// real cluster in a box: the samples of config/samples applied with the real kubectl, the project's
// manager and agents as processes, kube-controller-manager, CoreDNS, and real packets between
// clients, nodes and pods.
//
// Each story has a test named after it. The stories share one cluster; each has a namespace of its
// own, except where a story is told in the namespace default. A state is waited for with a bound
// and then measured.
package stories
