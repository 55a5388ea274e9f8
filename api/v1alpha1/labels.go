package v1alpha1

const (
	// LabelGroup is set on every EndpointSlice the operator writes; its value is the name of the
	// group whose pods the slice lists.
	LabelGroup = "net.servicegroup.dev/group"

	// LabelServiceGroup is set on every Service and EndpointSlice the operator writes; its value is
	// the name of the ServiceGroup.
	LabelServiceGroup = "net.servicegroup.dev/servicegroup"

	// LabelServiceProxyName is the core label by which kube-proxy and other proxies leave a
	// Service to somebody else. (k8s.io/kube-proxy, apis.LabelServiceProxyName)
	LabelServiceProxyName = "service.kubernetes.io/service-proxy-name"

	// ServiceProxyName is the value of LabelServiceProxyName that hands a Service and its slices
	// to the node agent.
	ServiceProxyName = "servicegroup"

	// ManagedBy is the value of endpointslice.kubernetes.io/managed-by on the slices the operator
	// writes, and the field manager of everything it applies.
	ManagedBy = "servicegroup-manager"

	// AnnotationRevision is set on the generated Service; its value is the name of the
	// ControllerRevision that holds the accepted spec, which the Service and its slices follow.
	AnnotationRevision = "net.servicegroup.dev/revision"

	// AnnotationSpecHash and AnnotationAllocated are set on the ControllerRevisions of a ServiceGroup:
	// the SHA-256 of the spec, and the addresses and NodePorts that its Service has, as JSON.
	AnnotationSpecHash  = "net.servicegroup.dev/spec-hash"
	AnnotationAllocated = "net.servicegroup.dev/allocated"

	// AnnotationServed was set on generated Services up to v0.1: the groups and ports that were
	// served. A manager that finds no revision takes them over.
	AnnotationServed = "net.servicegroup.dev/served"

	// AnnotationHostname is set on the EndpointSlices of an external group; its value is the hostname
	// that their addresses are of, or empty if they are of the spec. A manager that starts anew knows by
	// it whether they are those of the hostname that the group has now.
	AnnotationHostname = "net.servicegroup.dev/hostname"

	// LabelAdopting is set on a Service that is about to be adopted: the agents serve it as if it were
	// the operator's already, while the proxy that it has goes on serving it.
	LabelAdopting = "net.servicegroup.dev/adopting"

	// AnnotationAdopt is set on a ServiceGroup by whoever wants it to take over a Service of its name
	// that it did not make; its value is the UID of that Service. (docs/adoption.md)
	AnnotationAdopt = "net.servicegroup.dev/adopt"
)
