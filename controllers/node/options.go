package node

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"

	"github.com/servicegroup-dev/servicegroup/internal/nft"
)

// Options are the settings of an Agent.
type Options struct {
	// Client reads Services, EndpointSlices and the node. Required.
	Client kubernetes.Interface

	// NodeName is the name of the Node object of this node. Required.
	NodeName string

	// Mode says which Services the agent serves. Default: ModeGroups.
	Mode Mode

	// NodePorts says which of the node's addresses answer on NodePorts: "primary" (the default) for
	// the node's InternalIP of each family, "all" for every address but loopback, or ranges.
	NodePorts []string

	// ClusterCIDRs are the ranges of all pod addresses. Connections from elsewhere to a virtual IP
	// are masqueraded, and connections from there escape externalTrafficPolicy Local. Without any,
	// no connection to a virtual IP is masqueraded for its source.
	ClusterCIDRs []netip.Prefix

	// DetectLocal says how this node's pods are told from what is outside. Default:
	// DetectClusterCIDR.
	DetectLocal DetectLocal

	// PodBridge is the bridge of this node's pods, for DetectBridge; PodInterfacePrefix is what the
	// names of their interfaces begin with, for DetectInterfacePrefix.
	PodBridge, PodInterfacePrefix string

	// MasqueradeAll masquerades every connection to a virtual IP, whatever its source.
	MasqueradeAll bool

	// CountConnections makes the kernel count the connections of each endpoint of a frontend, for
	// the metric servicegroup_agent_connections_total and for PrintConnections. It costs about as
	// much kernel memory, and time to program, as the endpoints themselves.
	CountConnections bool

	// LeaseNamespace is the namespace of the Lease in which the agent reports what it has programmed.
	// Empty: it does not report.
	LeaseNamespace string

	// Registerer takes the agent's metrics. Default: a registry of its own.
	Registerer prometheus.Registerer

	// Version is what the agent says of itself when asked.
	Version string

	// Log is where the agent logs to. Default: nowhere.
	Log logr.Logger
}

// Mode is which Services an Agent serves.
type Mode string

const (
	// ModeGroups serves the Services that ServiceGroups generate, and leaves all others to the
	// cluster's own proxy.
	ModeGroups Mode = "groups"
	// ModeAll serves every Service that is not left to another proxy: it replaces kube-proxy.
	ModeAll Mode = "all"
)

// DetectLocal is how pods are told from what is outside. The names are kube-proxy's.
type DetectLocal string

const (
	// DetectClusterCIDR takes the sources in ClusterCIDRs for pods.
	DetectClusterCIDR DetectLocal = "ClusterCIDR"
	// DetectNodeCIDR takes the sources in the Node object's pod CIDRs for pods.
	DetectNodeCIDR DetectLocal = "NodeCIDR"
	// DetectBridge takes what comes in by PodBridge for pods.
	DetectBridge DetectLocal = "BridgeInterface"
	// DetectInterfacePrefix takes what comes in by interfaces named PodInterfacePrefix and more for
	// pods.
	DetectInterfacePrefix DetectLocal = "InterfaceNamePrefix"
)

// layout returns what the options choose of the constant layout.
func (o *Options) layout() nft.Layout {
	layout := nft.Layout{MasqueradeAll: o.MasqueradeAll, CountConnections: o.CountConnections}
	switch o.DetectLocal {
	case DetectBridge:
		layout.PodInterface = o.PodBridge
	case DetectInterfacePrefix:
		layout.PodInterface = o.PodInterfacePrefix + "*"
	case DetectClusterCIDR, DetectNodeCIDR:
	}
	return layout
}

func (o *Options) validateDetectLocal() error {
	switch o.DetectLocal {
	case "":
		o.DetectLocal = DetectClusterCIDR
	case DetectClusterCIDR, DetectNodeCIDR:
	case DetectBridge, DetectInterfacePrefix:
		name := o.layout().PodInterface
		if name == "" || name == "*" || len(name) >= unix.IFNAMSIZ {
			return fmt.Errorf("detecting pods by %s needs the name of an interface of at most %d characters, not %q", o.DetectLocal, unix.IFNAMSIZ-1, strings.TrimSuffix(name, "*"))
		}
	default:
		return fmt.Errorf("detecting pods by %q is not known: it is %s, %s, %s or %s", o.DetectLocal,
			DetectClusterCIDR, DetectNodeCIDR, DetectBridge, DetectInterfacePrefix)
	}
	return nil
}

// Validate sets defaults and says which option is wrong.
func (o *Options) Validate() error {
	var errs []error
	if o.Client == nil {
		errs = append(errs, errors.New("the API client is missing"))
	}
	if o.NodeName == "" {
		errs = append(errs, errors.New("the node name is missing: give the name of the Node object of this node"))
	}
	switch o.Mode {
	case "":
		o.Mode = ModeGroups
	case ModeGroups, ModeAll:
	default:
		errs = append(errs, fmt.Errorf("mode %q is not known: it is %s or %s", o.Mode, ModeGroups, ModeAll))
	}
	if err := o.validateDetectLocal(); err != nil {
		errs = append(errs, err)
	}
	if _, err := parseNodePorts(o.NodePorts); err != nil {
		errs = append(errs, err)
	}
	for _, cidr := range o.ClusterCIDRs {
		if !cidr.IsValid() || cidr != cidr.Masked() {
			errs = append(errs, fmt.Errorf("cluster CIDR %s is not a range: the bits behind its prefix length must be zero", cidr))
		}
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	return errors.Join(errs...)
}
