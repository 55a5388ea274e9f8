package v1alpha1

// Each agent reports what it has committed in a Lease of its own, in the namespace of the agents. Its
// name is LeasePrefix and the node's name; the resource versions are the newest of each resource that
// the agent has seen and programmed.
const (
	LeasePrefix = "servicegroup-agent-"

	// LabelAgent is on every agent's Lease; its value is "true".
	LabelAgent = "net.servicegroup.dev/agent"

	// AnnotationServices is the newest resourceVersion of Services that is programmed.
	AnnotationServices = "net.servicegroup.dev/services"

	// AnnotationEndpointSlices is the newest resourceVersion of EndpointSlices that is programmed.
	AnnotationEndpointSlices = "net.servicegroup.dev/endpointslices"
)
