package node

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// ignoredBed counts and logs as the agent does.
type ignoredBed struct {
	*ignored
	registry *prometheus.Registry
	lines    []string
}

func newIgnoredBed(t *testing.T) *ignoredBed {
	t.Helper()
	b := &ignoredBed{registry: prometheus.NewRegistry()}
	m, err := newMetrics(b.registry, ModeGroups)
	if err != nil {
		t.Fatal(err)
	}
	log := funcr.New(func(_, args string) { b.lines = append(b.lines, args) }, funcr.Options{})
	b.ignored = newIgnored(log, m.ignored, func(...types.NamespacedName) {})
	return b
}

// counted is the metric: reasons that are not 0, with their number.
func (b *ignoredBed) counted(t *testing.T) string {
	t.Helper()
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, family := range families {
		if family.GetName() != "servicegroup_agent_ignored_endpoints" {
			continue
		}
		if n := len(family.GetMetric()); n != len(proxy.Reasons()) {
			t.Errorf("the metric has %d reasons, want all %d from the start", n, len(proxy.Reasons()))
		}
		for _, m := range family.GetMetric() {
			if value := m.GetGauge().GetValue(); value != 0 {
				out = append(out, fmt.Sprintf("%s=%v", m.GetLabel()[0].GetValue(), value))
			}
		}
	}
	return strings.Join(out, " ")
}

func TestIgnoredEndpointsAreCountedAndLoggedOnce(t *testing.T) {
	b := newIgnoredBed(t)
	web, db := types.NamespacedName{Namespace: "default", Name: "web"}, types.NamespacedName{Namespace: "default", Name: "db"}
	loopback, linkLocal := proxy.Ignored{Address: "127.0.0.1", Reason: proxy.NoPodAddress}, proxy.Ignored{Address: "169.254.169.254", Reason: proxy.NoPodAddress}
	vip := proxy.Ignored{Address: "10.96.0.1", Reason: proxy.VirtualIP}
	over := func(address string) proxy.Ignored { return proxy.Ignored{Address: address, Reason: proxy.OverLimit} }
	var many []proxy.Ignored
	for i := range 2 * maxTold {
		many = append(many, proxy.Ignored{Address: fmt.Sprintf("239.0.0.%02d", i), Reason: proxy.NoPodAddress})
	}
	for i, step := range []struct {
		name types.NamespacedName
		next []proxy.Ignored
		// counted is the metric afterwards; logged is in the line that the step adds, "" if it adds none.
		counted, logged string
	}{
		{web, []proxy.Ignored{loopback, linkLocal}, "address=2", "169.254.169.254 (address)"},
		{web, []proxy.Ignored{loopback, linkLocal}, "address=2", ""},
		{db, []proxy.Ignored{vip}, "address=2 virtual-ip=1", "10.96.0.1 (virtual-ip)"},
		{web, []proxy.Ignored{loopback}, "address=1 virtual-ip=1", ""},
		{web, []proxy.Ignored{loopback, vip}, "address=1 virtual-ip=2", "10.96.0.1 (virtual-ip)"},
		{web, nil, "virtual-ip=1", ""},
		{db, nil, "", ""},
		{db, many, "address=20", `"more"=10`},
		{db, nil, "", ""},
		{db, []proxy.Ignored{over("10.244.0.8"), over("10.244.0.9")}, "limit=2", "10.244.0.8 (limit)"},
		{db, []proxy.Ignored{over("10.244.0.7"), over("10.244.0.9")}, "limit=2", ""}, // others, since pods come and go
		{db, []proxy.Ignored{loopback, over("10.244.0.6")}, "address=1 limit=1", "127.0.0.1 (address)"},
		{db, nil, "", ""},
		{db, []proxy.Ignored{over("10.244.0.7")}, "limit=1", "10.244.0.7 (limit)"},
	} {
		before := len(b.lines)
		b.note(step.name, step.next)
		if got := b.counted(t); got != step.counted {
			t.Errorf("step %d: counted %q, want %q", i, got, step.counted)
		}
		added := strings.Join(b.lines[before:], "\n")
		if (added == "") != (step.logged == "") || !strings.Contains(added, step.logged) || strings.Contains(added, "\n") {
			t.Errorf("step %d: logged %q, want a line with %q", i, added, step.logged)
		}
	}
	if strings.Contains(b.lines[2], "127.0.0.1") {
		t.Errorf("an address is logged again with another: %s", b.lines[2])
	}
}

// TestStraySlicesCountOnceTheyStay: slices and their Service come and go one after the other. Time passes only where
// it is said to.
func TestStraySlicesCountOnceTheyStay(t *testing.T) {
	synctest.Test(t, testStraySlices)
}

func testStraySlices(t *testing.T) {
	b := newIgnoredBed(t)
	name := types.NamespacedName{Namespace: "default", Name: "web"}
	stray := []proxy.Ignored{{Address: "10.244.0.66", Reason: proxy.NotOurService}}
	var marked atomic.Int32
	b.mark = func(names ...types.NamespacedName) { marked.Add(int32(len(names))) }
	pass := func(d time.Duration) {
		<-time.After(d)
		synctest.Wait()
	}
	expect := func(what, counted string, lines, looks int) {
		t.Helper()
		if got := b.counted(t); got != counted || len(b.lines) != lines || int(marked.Load()) != looks {
			t.Errorf("%s: counted %q, logged %q and looked again %d times, want %q, %d lines and %d times",
				what, got, b.lines, marked.Load(), counted, lines, looks)
		}
	}
	b.noteStrays(name, stray)
	expect("at first", "", 0, 0)
	pass(strayPause - time.Millisecond)
	b.noteStrays(name, stray)
	expect("when they change before the time", "", 0, 0)
	b.note(name, nil)
	pass(time.Millisecond)
	expect("when the Service came", "", 0, 1)

	b.noteStrays(name, stray)
	expect("when the Service went", "", 0, 1)
	b.noteStrays(name, nil)
	pass(strayPause)
	expect("when the slices went, too", "", 0, 2)

	b.noteStrays(name, stray)
	pass(strayPause)
	expect("when it is time to look again", "", 0, 3)
	b.noteStrays(name, stray)
	expect("after a while", "service=1", 1, 3)
	b.noteStrays(name, stray)
	pass(2 * strayPause)
	expect("at the next change", "service=1", 1, 3)
	b.noteStrays(name, nil)
	expect("when they went after all", "", 1, 3)
	if len(b.of)+len(b.since) > 0 {
		t.Errorf("kept: %v, %v", b.of, b.since)
	}
}
