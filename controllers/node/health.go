package node

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// unhealthyAfter is how long syncs may fail before the agent calls itself unhealthy.
const unhealthyAfter = 60 * time.Second

// health is what the agent says of itself. The zero value is an agent that has not synced yet.
type health struct {
	mu           sync.Mutex
	lastSuccess  time.Time
	failingSince time.Time
	reason       string
	// leaving says why the node is about to go, if it is.
	leaving string
}

// taintToBeDeleted is what the cluster autoscaler puts on a node it is about to remove.
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// setNode takes note of whether the node is about to go: load balancers must stop sending to it
// while it still serves the connections it has.
func (h *health) setNode(node *corev1.Node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaving = ""
	switch {
	case node == nil:
	case node.DeletionTimestamp != nil:
		h.leaving = "the node is being deleted"
	case slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == taintToBeDeleted }):
		h.leaving = "the node has the taint " + taintToBeDeleted
	}
}

func (h *health) succeeded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastSuccess, h.failingSince, h.reason = time.Now(), time.Time{}, ""
}

func (h *health) failed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failingSince.IsZero() {
		h.failingSince = time.Now()
	}
	h.reason = err.Error()
}

// healthReport is the body of /healthz.
type healthReport struct {
	// LastUpdated is when the last sync succeeded; absent before the first one.
	LastUpdated *time.Time `json:"lastUpdated,omitempty"`
	// Reason is why the last sync failed.
	Reason string `json:"reason,omitempty"`
}

func (h *health) report(now time.Time) (int, healthReport) {
	h.mu.Lock()
	defer h.mu.Unlock()
	report := healthReport{Reason: h.reason}
	if h.lastSuccess.IsZero() {
		if report.Reason == "" {
			report.Reason = "waiting for the first sync"
		}
		return http.StatusServiceUnavailable, report
	}
	if h.leaving != "" {
		report.Reason = h.leaving
		return http.StatusServiceUnavailable, report
	}
	last := h.lastSuccess
	report.LastUpdated = &last
	if !h.failingSince.IsZero() && now.Sub(h.failingSince) > unhealthyAfter {
		return http.StatusServiceUnavailable, report
	}
	return http.StatusOK, report
}

// healthy says whether load balancers may send to this node.
func (h *health) healthy() bool {
	status, _ := h.report(time.Now())
	return status == http.StatusOK
}

// Health serves /healthz, which is 200 once everything is programmed and 503 before that, after a
// minute of failing syncs and on a node that is about to go, and /livez, which is 200 as long as the process answers.
func (a *Agent) Health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		status, report := a.health.report(time.Now())
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		// The client has gone if this fails, and then nobody reads the answer.
		_ = json.NewEncoder(w).Encode(report)
	})
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}
