package plan

import (
	"cmp"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// CheckedPort is the port at which the health check of an external group checks every address: the one it
// names, or else the first TCP port that leads to the group.
func (e EntryPoint) CheckedPort(group *Group) (port uint16, ok bool) {
	check := group.External.HealthCheck
	if check == nil {
		return 0, false
	}
	if check.Port != 0 {
		return uint16(check.Port), true
	}
	for i := range e.Ports {
		if target, leads := e.Ports[i].Target(group.Name); leads && e.Ports[i].Protocol == corev1.ProtocolTCP {
			return uint16(target.IntVal), true
		}
	}
	return 0, false
}

// HealthChecks is how many addresses are checked at most: all of every external group with a health check,
// and of a hostname as many as are served of one, however many it has today.
func (e EntryPoint) HealthChecks() int {
	checks := 0
	for i := range e.Groups {
		group := &e.Groups[i]
		if group.External == nil {
			continue
		}
		if _, ok := e.CheckedPort(group); !ok {
			continue
		}
		if group.External.Hostname != "" {
			checks += maxExternal
		} else {
			checks += len(externalAddresses(group.External, Resolved{}))
		}
	}
	return checks
}

// HealthCheckOf is the health check of an external group with the defaults that the API server fills in,
// for who does without it. None lasts longer than its period: the API server refuses such a one, but for
// what it stored before it did.
func HealthCheckOf(external *v1alpha1.External) v1alpha1.HealthCheck {
	check := *external.HealthCheck.DeepCopy()
	check.PeriodSeconds = cmp.Or(check.PeriodSeconds, 10)
	check.TimeoutSeconds = min(cmp.Or(check.TimeoutSeconds, 1), check.PeriodSeconds)
	check.SuccessThreshold = cmp.Or(check.SuccessThreshold, 1)
	check.FailureThreshold = cmp.Or(check.FailureThreshold, 3)
	if check.HTTP != nil {
		check.HTTP.Path = cmp.Or(check.HTTP.Path, "/")
		check.HTTP.Host = cmp.Or(check.HTTP.Host, strings.TrimSuffix(external.Hostname, "."))
	}
	return check
}
