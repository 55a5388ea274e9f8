package node

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// metrics of the agent. None has a label without a bound.
type metrics struct {
	duration   *prometheus.HistogramVec
	failures   prometheus.Counter
	repairs    prometheus.Counter
	elements   *prometheus.CounterVec
	services   prometheus.Gauge
	ignored    prometheus.Gauge
	staleFlows prometheus.Counter
	lastSynced prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	const namespace, subsystem = "servicegroup", "agent"
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "sync_duration_seconds",
			Help:    "Time from taking what changed to its commit in the kernel; kind is full or change.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}, []string{"kind"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "sync_failures_total",
			Help: "Syncs that failed and were followed by writing everything anew.",
		}),
		repairs: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "repairs_total",
			Help: "How often the tables were looked at because somebody else changed them.",
		}),
		elements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "elements_written_total",
			Help: "Map elements written to the kernel; operation is add or delete.",
		}, []string{"operation"}),
		services: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "services",
			Help: "Services that are programmed.",
		}),
		ignored: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "ignored_endpoints",
			Help: "Endpoint addresses that were left out because they are not addresses of pods.",
		}),
		staleFlows: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "stale_udp_flows_deleted_total",
			Help: "UDP flows that were ended because their endpoint left.",
		}),
		lastSynced: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "last_sync_timestamp_seconds",
			Help: "When the last sync succeeded, in seconds since 1970.",
		}),
	}
	for _, c := range []prometheus.Collector{m.duration, m.failures, m.repairs, m.elements, m.services, m.ignored, m.staleFlows, m.lastSynced} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) synced(full bool, services int, took time.Duration) {
	kind := "change"
	if full {
		kind = "full"
	}
	m.duration.WithLabelValues(kind).Observe(took.Seconds())
	m.services.Set(float64(services))
	m.lastSynced.SetToCurrentTime()
}

func (m *metrics) wrote(change *ruleset.Change) {
	m.elements.WithLabelValues("add").Add(float64(len(change.Add)))
	m.elements.WithLabelValues("delete").Add(float64(len(change.Delete)))
}
