package agentapi

// Connection is a row of what "servicegroup agent connections -o json" prints: how many connections an endpoint of a Service port has had on this node.
type Connection struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	// Port is the name of the Service port, PortNumber its number.
	Port       string `json:"port"`
	PortNumber uint16 `json:"portNumber"`
	Protocol   string `json:"protocol"`
	// Group is the group of the ServiceGroup that the endpoint belongs to, empty for another Service.
	Group string `json:"group"`
	// Endpoint is the address and port of a pod. It is empty for all endpoints of the group together
	// that have left since the agent started.
	Endpoint    string `json:"endpoint"`
	Connections uint64 `json:"connections"`
}
