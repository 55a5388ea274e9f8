package probe

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	checks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "servicegroup_probe_checks_total",
		Help: "Health checks of external addresses, by result: passed or failed.",
	}, []string{"result"})
	lookups = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "servicegroup_probe_lookups_total",
		Help: "Lookups of the names of external groups, by result: passed or failed.",
	}, []string{"result"})
	late = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "servicegroup_probe_late_total",
		Help: "Health checks and lookups that started later than they were due by more than a tenth of their interval, by kind: check or lookup.",
	}, []string{"kind"})
)

// The manager's own registry is global in controller-runtime, with its controllers' metrics.
func init() { metrics.Registry.MustRegister(checks, lookups, late) }

func countCheck(err error) { checks.WithLabelValues(result(err)).Inc() }

func countLookup(err error) { lookups.WithLabelValues(result(err)).Inc() }

func result(err error) string {
	if err != nil {
		return "failed"
	}
	return "passed"
}
