package integration

import (
	"maps"
	"net/http"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	dto "github.com/prometheus/client_model/go"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// writeCounter counts the writes of the manager by namespace.
type writeCounter struct {
	mu      sync.Mutex
	byPlace map[string]int
	hook    writeHook
	rights  map[string]bool
}

// writeHook stands between the manager and the API server for a write to a place.
type writeHook func(at string, req *http.Request, next http.RoundTripper) (*http.Response, error)

// wrap counts what goes through a transport.
func (c *writeCounter) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		c.note(rightFor(req))
		if req.Method != http.MethodGet {
			c.mu.Lock()
			if c.byPlace == nil {
				c.byPlace = map[string]int{}
			}
			at, hook := place(req.URL.Path), c.hook
			c.byPlace[at]++
			c.mu.Unlock()
			if hook != nil {
				return hook(at, req, next)
			}
		}
		return next.RoundTrip(req)
	})
}

// place is namespace/resource of a request, with the subresource if there is one.
func place(path string) string {
	_, rest, _ := strings.Cut(path, "/namespaces/")
	parts := strings.Split(rest, "/")
	if len(parts) < 2 {
		return path
	}
	out := parts[0] + "/" + parts[1]
	if len(parts) > 3 {
		out += "/" + parts[3]
	}
	return out
}

// in are the writes in a namespace, by resource, since the last reset; events do not count.
func (c *writeCounter) in(namespace string) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]int{}
	for at, n := range c.byPlace {
		if resource, ok := strings.CutPrefix(at, namespace+"/"); ok && resource != "events" {
			found[resource] = n
		}
	}
	return found
}

// everywhere are all writes since the last reset, events too.
func (c *writeCounter) everywhere() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.byPlace)
}

func (c *writeCounter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byPlace = map[string]int{}
}

// intercept sets a hook for the rest of the test.
func (c *writeCounter) intercept(hook writeHook) {
	set := func(h writeHook) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.hook = h
	}
	set(hook)
	DeferCleanup(set, writeHook(nil))
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// reconciliations are how often the controller has reconciled anything, with any result.
func reconciliations() float64 {
	families, err := metrics.Registry.Gather()
	Expect(err).NotTo(HaveOccurred())
	total := 0.0
	for _, family := range families {
		if family.GetName() == "controller_runtime_reconcile_total" {
			for _, m := range family.Metric {
				total += value(m)
			}
		}
	}
	return total
}

func value(m *dto.Metric) float64 { return m.GetCounter().GetValue() }
