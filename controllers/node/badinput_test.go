package node

import (
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// TestIgnoredEndpointsAreCountedAndLoggedOnce takes the addresses that proxy.Build leaves out.
func TestIgnoredEndpointsAreCountedAndLoggedOnce(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry, ModeGroups)
	if err != nil {
		t.Fatal(err)
	}
	ignored := func() float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == "servicegroup_agent_ignored_endpoints" {
				return family.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1
	}
	var lines []string
	log := funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
	a := &Agent{metrics: m, ignored: map[types.NamespacedName]int{}, options: Options{Log: log}}
	name := types.NamespacedName{Namespace: "default", Name: "web"}
	bad := &proxy.Service{Ignored: []string{"127.0.0.1", "169.254.169.254"}}
	for i, step := range []struct {
		service *proxy.Service
		count   float64
		lines   int
	}{{bad, 2, 1}, {bad, 2, 1}, {&proxy.Service{}, 0, 1}, {bad, 2, 2}, {nil, 0, 2}} {
		a.noteIgnored(name, step.service)
		if got := ignored(); got != step.count || len(lines) != step.lines {
			t.Errorf("step %d: %v addresses and %d lines, want %v and %d", i, got, len(lines), step.count, step.lines)
		}
	}
	if !strings.Contains(lines[0], "169.254.169.254") {
		t.Errorf("the line %q does not name the address", lines[0])
	}
}
