package node

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// unhealthyAfter is how long syncs may fail before the agent calls itself unhealthy.
const unhealthyAfter = 60 * time.Second

// health is what the agent says of itself. The zero value is an agent that has not synced yet.
type health struct {
	mu           sync.Mutex
	lastSuccess  time.Time
	failingSince time.Time
	reason       string
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
	last := h.lastSuccess
	report.LastUpdated = &last
	if !h.failingSince.IsZero() && now.Sub(h.failingSince) > unhealthyAfter {
		return http.StatusServiceUnavailable, report
	}
	return http.StatusOK, report
}

// Health serves /healthz, which is 200 once everything is programmed and 503 before that and after a
// minute of failing syncs, and /livez, which is 200 as long as the process answers.
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
