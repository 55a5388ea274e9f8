package node

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"
)

// Options are the settings of an Agent.
type Options struct {
	// Client reads Services, EndpointSlices and the node. Required.
	Client kubernetes.Interface

	// NodeName is the name of the Node object of this node. Required.
	NodeName string

	// ClusterCIDRs are the ranges of all pod addresses. Connections from elsewhere to a virtual IP
	// are masqueraded, and connections from there escape externalTrafficPolicy Local. Without any,
	// no connection to a virtual IP is masqueraded for its source.
	ClusterCIDRs []netip.Prefix

	// MasqueradeAll masquerades every connection to a virtual IP, whatever its source.
	MasqueradeAll bool

	// Registerer takes the agent's metrics. Default: a registry of its own.
	Registerer prometheus.Registerer

	// Log is where the agent logs to. Default: nowhere.
	Log logr.Logger
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
