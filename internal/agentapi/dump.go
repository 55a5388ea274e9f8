package agentapi

import (
	"net/netip"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// Dump is what "servicegroup agent dump -o json" prints: what the agent believes, and what the kernel
// holds.
type Dump struct {
	Version string `json:"version"`
	Mode    string `json:"mode"`
	// Synced says whether the agent knows what the kernel holds. It does not before its first sync
	// and after a failed one.
	Synced bool `json:"synced"`
	// LayoutFound says whether the kernel has the tables in the layout this agent makes.
	LayoutFound bool `json:"layoutFound"`
	// Service is the Service that was asked for, NAMESPACE/NAME; empty for all.
	Service string `json:"service,omitempty"`
	// Services is how many Services the agent serves.
	Services int `json:"services"`
	// Node, Ranges and Site are what the agent computes with.
	Node   proxy.Node     `json:"node"`
	Ranges ruleset.Ranges `json:"ranges"`
	Site   Site           `json:"site"`
	// Conflicts are the frontends of the Service that another Service has.
	Conflicts []Conflict `json:"conflicts,omitempty"`
	// Left are the NodePorts that are left to processes of the node, which listen there.
	Left []proxy.Key `json:"left,omitempty"`
	// Clients are those that were asked about, and Remembered what session affinity remembers of them
	// in the kernel.
	Clients    []netip.Addr         `json:"clients,omitempty"`
	Remembered []ruleset.Remembered `json:"remembered,omitempty"`
	// Agent are the elements that the agent believes are programmed, and Kernel those that are.
	Agent  []ruleset.Element `json:"agent"`
	Kernel []ruleset.Element `json:"kernel"`
}

// Site is what the agent was told of how pods are connected, and of what to count.
type Site struct {
	// PodInterface is the name of the pods' interface, or with a * at its end the beginning of their
	// names; empty where pods are told by their addresses.
	PodInterface string `json:"podInterface,omitempty"`
	// MasqueradeAll says that pods are masqueraded on their way to a virtual IP, too.
	MasqueradeAll bool `json:"masqueradeAll,omitempty"`
	// CountConnections says that the tables count the connections of endpoints.
	CountConnections bool `json:"countConnections,omitempty"`
}

// Conflict is a frontend that another Service has.
type Conflict struct {
	Frontend proxy.Key `json:"frontend"`
	// Holder is NAMESPACE/NAME of the Service that has it.
	Holder string `json:"holder"`
}
