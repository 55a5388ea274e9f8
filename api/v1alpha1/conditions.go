package v1alpha1

// Condition types of a ServiceGroup. observedGeneration is always set.
const (
	// ConditionAccepted is True when the spec is valid and the Service and EndpointSlices it asks
	// for are written. While it is False, what was served before goes on being served.
	ConditionAccepted = "Accepted"

	// ConditionReady is True when every port has at least one ready endpoint.
	ConditionReady = "Ready"
)

// Reasons of ConditionAccepted.
const (
	// ReasonAccepted: the spec is valid and written.
	ReasonAccepted = "Accepted"
	// ReasonInvalidSpec: a field has a value that no cluster could serve; the message names the
	// field, the value and the remedy.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonNameTaken: a Service of that name exists and belongs to somebody else.
	ReasonNameTaken = "NameTaken"
	// ReasonNodePortUnavailable: a nodePort is outside the cluster's range, or another Service
	// holds it; the message names the holder.
	ReasonNodePortUnavailable = "NodePortUnavailable"
	// ReasonClusterIPUnavailable: a clusterIP is outside the cluster's range, or another Service
	// holds it; the message names the holder.
	ReasonClusterIPUnavailable = "ClusterIPUnavailable"
	// ReasonRefused: the API server refused the generated Service for a reason not listed above.
	ReasonRefused = "Refused"
)

// Reasons of ConditionReady.
const (
	// ReasonEndpointsReady: every port has a ready endpoint.
	ReasonEndpointsReady = "EndpointsReady"
	// ReasonNoReadyEndpoints: at least one port has none; the message names the ports.
	ReasonNoReadyEndpoints = "NoReadyEndpoints"
	// ReasonNotAccepted: the spec is not accepted and nothing is served for it yet.
	ReasonNotAccepted = "NotAccepted"
)
