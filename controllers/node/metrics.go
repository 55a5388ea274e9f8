package node

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// metrics of the agent. None has a label without a bound.
type metrics struct {
	duration    *prometheus.HistogramVec
	programming prometheus.Histogram
	failures    *prometheus.CounterVec
	repairs     prometheus.Counter
	elements    *prometheus.CounterVec
	services    prometheus.Gauge
	ignored     *prometheus.GaugeVec
	collisions  prometheus.Gauge
	conflicts   prometheus.Gauge
	healthPorts prometheus.Gauge
	staleFlows  prometheus.Counter
	lastSynced  prometheus.Gauge

	// The names under which dashboards know kube-proxy's figures, where the agent replaces it.
	proxyDuration, proxyProgramming prometheus.Histogram
	proxyLastSynced                 prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer, mode Mode) (*metrics, error) {
	const namespace, subsystem = "servicegroup", "agent"
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "sync_duration_seconds",
			Help:    "Time from taking what changed to its commit in the kernel; kind is full or change.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 20),
		}, []string{"kind"}),
		programming: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "network_programming_duration_seconds",
			Help:    "Time from the change of a pod to the commit of its endpoints in the kernel.",
			Buckets: programmingBuckets(),
		}),
		failures: prometheus.NewCounterVec(counter("sync_failures_total",
			"Syncs that failed and were followed by a look at everything; reason is the kernel's error, such as ENOMEM, or other."), []string{"reason"}),
		repairs:  prometheus.NewCounter(counter("repairs_total", "How often the tables were looked at because somebody else changed them.")),
		elements: prometheus.NewCounterVec(counter("elements_written_total", "Map elements written to the kernel; operation is add or delete."), []string{"operation"}),
		services: gauge("services", "Services that are programmed."),
		ignored: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "ignored_endpoints",
			Help: "Endpoint addresses that are left out; reason is address, duplicate, family, limit, port, service or virtual-ip.",
		}, []string{"reason"}),
		collisions: gauge("nodeport_collisions", "NodePorts that are left to a process of the node that listens on them, by address."),
		conflicts:  gauge("conflicting_services", "Services of which a frontend is left out because another Service has it already."),
		healthPorts: gauge("health_check_ports_waiting",
			"Health-check NodePorts that cannot be listened on yet, by address; they are tried again."),
		staleFlows: prometheus.NewCounter(counter("stale_udp_flows_deleted_total", "UDP flows that were ended because their endpoint left.")),
		lastSynced: gauge("last_sync_timestamp_seconds", "When the last sync succeeded, in seconds since 1970."),
	}
	// What is there from the start, at 0, shows the first time, too.
	for _, reason := range proxy.Reasons() {
		m.ignored.WithLabelValues(string(reason))
	}
	for _, reason := range append(failureReasons(), otherFailure) {
		m.failures.WithLabelValues(reason)
	}
	collectors := []prometheus.Collector{
		m.duration, m.programming, m.failures, m.repairs, m.elements, m.services, m.ignored, m.collisions, m.conflicts, m.healthPorts, m.staleFlows, m.lastSynced,
	}
	if mode == ModeAll {
		collectors = append(collectors, m.addProxyNames()...)
	}
	for _, c := range collectors {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

// programmingBuckets are kube-proxy's for the same figure (pkg/proxy/metrics of Kubernetes 1.37): 0.25 s
// to 300 s, with finer ones below.
func programmingBuckets() []float64 {
	return append(prometheus.ExponentialBuckets(0.001, 2, 8), prometheus.ExponentialBuckets(0.25, 2, 11)...)
}

func (m *metrics) addProxyNames() []prometheus.Collector {
	m.proxyDuration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "kubeproxy_sync_proxy_rules_duration_seconds", Help: "SyncProxyRules latency in seconds",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
	})
	m.proxyProgramming = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "kubeproxy_network_programming_duration_seconds", Help: "In Cluster Network Programming Latency in seconds",
		Buckets: programmingBuckets(),
	})
	m.proxyLastSynced = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kubeproxy_sync_proxy_rules_last_timestamp_seconds", Help: "The last time proxy rules were successfully synced",
	})
	return []prometheus.Collector{m.proxyDuration, m.proxyProgramming, m.proxyLastSynced}
}

// otherFailure is the reason of failures that are not counted one by one.
const otherFailure = "other"

// failureReasons are the kernel's errors that are counted one by one: memory and buffers, somebody else who
// owns the table or is at it, and features that are missing.
func failureReasons() []string {
	return []string{"EBUSY", "EEXIST", "ENOBUFS", "ENOENT", "ENOMEM", "ENOSPC", "EOPNOTSUPP", "EPERM"}
}

// failed notes a sync that failed.
func (m *metrics) failed(err error) {
	reason := otherFailure
	var errno unix.Errno
	if errors.As(err, &errno) && slices.Contains(failureReasons(), unix.ErrnoName(errno)) {
		reason = unix.ErrnoName(errno)
	}
	m.failures.WithLabelValues(reason).Inc()
}

// synced notes a sync that began at started and brought changes that were caused at triggers.
func (m *metrics) synced(full bool, services int, started time.Time, triggers []time.Time) {
	kind := "change"
	if full {
		kind = "full"
	}
	now := time.Now()
	m.duration.WithLabelValues(kind).Observe(now.Sub(started).Seconds())
	m.services.Set(float64(services))
	m.lastSynced.Set(float64(now.UnixNano()) / 1e9)
	if m.proxyDuration != nil {
		m.proxyDuration.Observe(now.Sub(started).Seconds())
		m.proxyLastSynced.Set(float64(now.UnixNano()) / 1e9)
	}
	for _, at := range triggers {
		m.programming.Observe(now.Sub(at).Seconds())
		if m.proxyProgramming != nil {
			m.proxyProgramming.Observe(now.Sub(at).Seconds())
		}
	}
}

func (m *metrics) wrote(change *ruleset.Change) {
	m.elements.WithLabelValues("add").Add(float64(len(change.Add)))
	m.elements.WithLabelValues("delete").Add(float64(len(change.Delete)))
}
