package plan

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// Bounds of the schema (api/v1alpha1), which has not seen the annotation: whoever may apply Services can
// apply one in the operator's name.
const (
	maxGroups     = 200
	maxPorts      = 100
	maxBackends   = 16
	maxGroupName  = 50
	maxAddresses  = 100
	maxHostname   = 253
	maxPeriod     = 3600
	maxTimeout    = 60
	maxThreshold  = 100
	maxPath       = 1024
	maxPortNumber = 65535
)

// inBounds reports whether the schema would have taken groups and ports.
func (s *served) inBounds() bool {
	if len(s.Groups) > maxGroups || len(s.Ports) > maxPorts {
		return false
	}
	groups, ports := map[string]bool{}, map[portNumber]bool{}
	for i := range s.Groups {
		group := &s.Groups[i]
		if groups[group.Name] || !groupInBounds(group) {
			return false
		}
		groups[group.Name] = true
	}
	for i := range s.Ports {
		port := &s.Ports[i]
		number := portNumber{port.Port, protocolOf(port)}
		if ports[number] || !isPort(number.number, false) || !slices.Contains(protocols, number.protocol) || len(port.Backends) > maxBackends {
			return false
		}
		ports[number] = true
	}
	return true
}

func groupInBounds(group *v1alpha1.Group) bool {
	external := group.External
	switch {
	case len(group.Name) > maxGroupName || len(validation.IsDNS1123Label(group.Name)) > 0 || (group.Selector == nil) == (external == nil):
		return false
	case external == nil:
		return len(group.Selector.MatchLabels)+len(group.Selector.MatchExpressions) > 0
	case len(external.Addresses) > maxAddresses || len(external.Hostname) > maxHostname || (len(external.Addresses) == 0) == (external.Hostname == ""):
		return false
	}
	check := external.HealthCheck
	return check == nil || upTo(check.Port, maxPortNumber) && upTo(check.PeriodSeconds, maxPeriod) && upTo(check.TimeoutSeconds, maxTimeout) &&
		upTo(check.SuccessThreshold, maxThreshold) && upTo(check.FailureThreshold, maxThreshold) &&
		(check.HTTP == nil || len(check.HTTP.Path) <= maxPath && len(check.HTTP.Host) <= maxHostname)
}

func upTo(number, most int32) bool { return number >= 0 && number <= most }
