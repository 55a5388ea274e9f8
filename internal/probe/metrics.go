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
)

// The manager's own registry is global in controller-runtime, with its controllers' metrics.
func init() { metrics.Registry.MustRegister(checks, lookups) }

func countCheck(err error) { checks.WithLabelValues(result(err)).Inc() }

func countLookup(err error) { lookups.WithLabelValues(result(err)).Inc() }

func result(err error) string {
	if err != nil {
		return "failed"
	}
	return "passed"
}
