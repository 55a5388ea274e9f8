package agentapi

// NodeCheck is what "servicegroup agent check -o json" prints: what the agent finds on its node.
type NodeCheck struct {
	Version string `json:"version"`
	Kernel  string `json:"kernel"`
	// Mode is the agent's; empty if it does not answer, which Silence explains.
	Mode    string  `json:"mode,omitempty"`
	Silence string  `json:"silence,omitempty"`
	Probes  []Probe `json:"probes"`
	// Proxies are other service proxies whose rules are in the kernel.
	Proxies []string `json:"proxies,omitempty"`
	// Listeners are the processes of the node that listen on NodePorts.
	Listeners []Listener `json:"listeners,omitempty"`
	// Connections are what came of connecting to the addresses that were asked for.
	Connections []Attempt `json:"connections,omitempty"`
}

// Probe is something that the node must be able to do.
type Probe struct {
	Name string `json:"name"`
	// Problem is why it cannot, and Remedy what to do; empty if it can.
	Problem string `json:"problem,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
	// Optional says that it is needed by a setting only.
	Optional bool `json:"optional,omitempty"`
}

// Listener is a socket of the node's.
type Listener struct {
	Address  string `json:"address"`
	Protocol string `json:"protocol"`
	// Kept says that it was there first, so that the NodePort is left to it.
	Kept bool `json:"kept,omitempty"`
}

// Attempt is a TCP connection from the node.
type Attempt struct {
	Address string `json:"address"`
	// Problem is why there was none; empty if there was.
	Problem string `json:"problem,omitempty"`
}
