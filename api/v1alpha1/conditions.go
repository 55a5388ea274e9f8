package v1alpha1

// Condition types of a ServiceGroup. observedGeneration is always set.
const (
	// ConditionAccepted is True when the spec is valid and the Service and EndpointSlices it asks
	// for are written. While it is False, what was served before goes on being served.
	ConditionAccepted = "Accepted"

	// ConditionProgrammed is True when every node agent that reports has programmed the Service and
	// EndpointSlices that were written for this generation of the spec. It is there only where the
	// manager is told where the agents report.
	ConditionProgrammed = "Programmed"

	// ConditionReady is True when every port has at least one ready endpoint.
	ConditionReady = "Ready"

	// ConditionResolvedRefs is True when every hostname of an external group was found when it was looked
	// up last, and all its addresses may be served. It is there only while what is served has a hostname
	// and the manager allows addresses outside the cluster.
	ConditionResolvedRefs = "ResolvedRefs"

	// ConditionStalled is there, and True, while Accepted is False; it repeats its reason and message. It
	// and the next are what kstatus looks for, and with it Helm, Flux and others that wait.
	ConditionStalled = "Stalled"

	// ConditionReconciling is there, and True, while the spec is accepted and not programmed yet; it
	// repeats reason and message of Programmed.
	ConditionReconciling = "Reconciling"

	// ConditionPaused is there, and True, while spec.paused is.
	ConditionPaused = "Paused"
)

// ReasonPaused is the reason of ConditionPaused.
const ReasonPaused = "Paused"

// ReasonFault is the reason of ConditionStalled while the API server does not take a write, although
// nothing is wrong with the spec. The message has its answer.
const ReasonFault = "Fault"

// Reasons of ConditionAccepted.
const (
	// ReasonAccepted: the spec is valid and written.
	ReasonAccepted = "Accepted"
	// ReasonInvalidSpec: a field has a value that no cluster could serve; the message names the
	// field, the value and the remedy.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonOverBudget: the spec, or what it selects, is more than one ServiceGroup may cost everybody
	// else; the message names the budget and the number. (docs/scale.md)
	ReasonOverBudget = "OverBudget"
	// ReasonOverruled: somebody else, perhaps an admission webhook, changes the Service back after each
	// write; the message names the field managers.
	ReasonOverruled = "Overruled"
	// ReasonNameTaken: a Service of that name, or of the name of a group's Service, exists and belongs
	// to somebody else.
	ReasonNameTaken = "NameTaken"
	// ReasonNodePortUnavailable: a nodePort or the healthCheckNodePort is outside the cluster's range,
	// or another Service holds it, or the operator's range has none left; the message names the holder.
	ReasonNodePortUnavailable = "NodePortUnavailable"
	// ReasonClusterIPUnavailable: a clusterIP is outside the cluster's range, or another Service holds
	// it, which the message names; or it differs from the one that the Service has for life.
	ReasonClusterIPUnavailable = "ClusterIPUnavailable"
	// ReasonAddressNotAllowed: an external group has addresses that the manager's --external-ranges do
	// not hold, or that nobody may serve, or a hostname where there are no such ranges; everything else
	// is served. Also of ConditionResolvedRefs: a hostname has some such addresses.
	ReasonAddressNotAllowed = "AddressNotAllowed"
	// ReasonRefused: the API server refused the generated Service for a reason not listed above.
	ReasonRefused = "Refused"
)

// Reasons of ConditionProgrammed, besides ReasonNotAccepted.
const (
	// ReasonProgrammed: every agent has it.
	ReasonProgrammed = "Programmed"
	// ReasonPending: at least one agent does not have it yet; the message names the nodes once they
	// have had enough time.
	ReasonPending = "Pending"
	// ReasonNoAgents: no agent reports.
	ReasonNoAgents = "NoAgents"
)

// Reasons of ConditionResolvedRefs, besides ReasonAddressNotAllowed and ReasonPending.
const (
	// ReasonResolvedRefs: every hostname is resolved.
	ReasonResolvedRefs = "ResolvedRefs"
	// ReasonHostnameNotResolved: the last lookup of a hostname failed, or found no address that may be
	// served; the message names group and hostname, and says what is served all the same.
	ReasonHostnameNotResolved = "HostnameNotResolved"
)

// Reasons of ConditionReady.
const (
	// ReasonEndpointsReady: every port has a ready endpoint.
	ReasonEndpointsReady = "EndpointsReady"
	// ReasonExternalName: the entry point is a name, behind which nothing can be ready or not.
	ReasonExternalName = "ExternalName"
	// ReasonNoReadyEndpoints: at least one port has none; the message names the ports.
	ReasonNoReadyEndpoints = "NoReadyEndpoints"
	// ReasonNotAccepted: the spec is not accepted, and nothing is served for it yet or, with status
	// Unknown, nobody can tell what is.
	ReasonNotAccepted = "NotAccepted"
)
