package dashboard

import (
	"maps"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/rulefmt"

	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// alertCase is what Prometheus has scraped each minute, in the notation of promtool's tests: 0+1x60 is
// growing by one for an hour. quiet is nearly as bad, and no reason to wake anybody.
type alertCase struct{ fires, quiet string }

var alertCases = map[string]alertCase{
	"ServiceGroupManagerDown": {
		`up{job="servicegroup-manager-metrics", instance="a"} 0x60`,
		`up{job="servicegroup-manager-metrics", instance="a"} 0x60
		 up{job="servicegroup-manager-metrics", instance="b"} 1x60`,
	},
	"ServiceGroupNoLeader": {
		`leader_election_master_status{name="servicegroup-manager", instance="a"} 0x60
		 leader_election_master_status{name="servicegroup-manager", instance="b"} 0x60`,
		`leader_election_master_status{name="servicegroup-manager", instance="a"} 0x60
		 leader_election_master_status{name="servicegroup-manager", instance="b"} 1x20 0x3 1x40`,
	},
	"ServiceGroupReconcileErrors": {
		`controller_runtime_reconcile_errors_total{controller="servicegroup", instance="a"} 0+1x60`,
		`controller_runtime_reconcile_errors_total{controller="servicegroup", instance="a"} 0x10 9x50`,
	},
	"ServiceGroupReconcileStuck": {
		`workqueue_unfinished_work_seconds{name="servicegroup", instance="a"} 0+60x60`,
		`workqueue_unfinished_work_seconds{name="servicegroup", instance="a"} 0x20 299x40`,
	},
	"ServiceGroupAgentDown": {
		`up{job="servicegroup-agent-metrics", instance="node1"} 0x60
		 up{job="servicegroup-agent-metrics", instance="node2"} 1x60`,
		`up{job="servicegroup-agent-metrics", instance="node1"} 1x20 0x8 1x40`,
	},
	"ServiceGroupAgentSyncFailing": {
		`servicegroup_agent_sync_failures_total{instance="node1", reason="EBUSY"} 0+1x60`,
		`servicegroup_agent_sync_failures_total{instance="node1", reason="EBUSY"} 0x20 2x40`,
	},
	"ServiceGroupAgentTablesChanged": {
		`servicegroup_agent_repairs_total{instance="node1"} 0+2x60`,
		`servicegroup_agent_repairs_total{instance="node1"} 0x20 4x40`,
	},
	"ServiceGroupProgrammingSlow": {
		`servicegroup_agent_network_programming_duration_seconds_bucket{instance="node1", le="30"} 0+90x60
		 servicegroup_agent_network_programming_duration_seconds_bucket{instance="node1", le="60"} 0+100x60
		 servicegroup_agent_network_programming_duration_seconds_bucket{instance="node1", le="+Inf"} 0+100x60`,
		`servicegroup_agent_network_programming_duration_seconds_bucket{instance="node1", le="30"} 0+995x60
		 servicegroup_agent_network_programming_duration_seconds_bucket{instance="node1", le="60"} 0+1000x60
		 servicegroup_agent_network_programming_duration_seconds_bucket{instance="node1", le="+Inf"} 0+1000x60`,
	},
	"ServiceGroupEndpointsIgnored": {
		`servicegroup_agent_ignored_endpoints{instance="node1", reason="address"} 1x60`,
		`servicegroup_agent_ignored_endpoints{instance="node1", reason="address"} 0x20 3x10 0x30`,
	},
}

// TestAlertsFire: each alert fires when it should, after its time and not before, and not otherwise.
func TestAlertsFire(t *testing.T) {
	alerts, err := manifests.Alerts()
	if err != nil {
		t.Fatal(err)
	}
	known := maps.Clone(alertCases)
	for _, rule := range alerts {
		t.Run(rule.Alert, func(t *testing.T) {
			test, found := known[rule.Alert]
			if !found {
				t.Fatal("there is no case of it")
			}
			delete(known, rule.Alert)
			bad := newPrometheus(t, "load 1m\n"+test.fires)
			first := bad.firstFiring(t, rule)
			wait := time.Duration(rule.For)
			if first < 0 || first < wait || first > wait+20*time.Minute {
				t.Errorf("it fires after %s, and should not before %s", first, wait)
			}
			if first := newPrometheus(t, "load 1m\n"+test.quiet).firstFiring(t, rule); first >= 0 {
				t.Errorf("it fires after %s of what is nearly as bad", first)
			}
		})
	}
	for name := range known {
		t.Errorf("there is no alert %s", name)
	}
}

// TestAnAbsentManagerIsDown: no target is as bad as one that does not answer.
func TestAnAbsentManagerIsDown(t *testing.T) {
	alerts, err := manifests.Alerts()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(alerts, func(r rulefmt.Rule) bool { return r.Alert == "ServiceGroupManagerDown" })
	if first := newPrometheus(t, "load 1m\nup{job=\"another\"} 1x60").firstFiring(t, alerts[at]); first != time.Duration(alerts[at].For) {
		t.Errorf("it fires after %s, want %s", first, alerts[at].For)
	}
}

var annotationLabel = regexp.MustCompile(`\$labels\.(\w+)`)

// firstFiring evaluates a rule once a minute for an hour, as Prometheus does, and returns when it fires at
// first: when the same series was there for as long as the rule says. It is negative if it does not.
func (p *prometheus) firstFiring(t *testing.T, rule rulefmt.Rule) time.Duration {
	t.Helper()
	since := map[string]time.Duration{}
	for now := time.Duration(0); now <= time.Hour; now += time.Minute {
		found, err := p.at(t.Context(), rule.Expr, time.UnixMilli(now.Milliseconds()))
		if err != nil {
			t.Fatal(err)
		}
		active := map[string]time.Duration{}
		for _, sample := range found {
			series := sample.Metric.String()
			active[series] = now
			if began, known := since[series]; known {
				active[series] = began
			}
			if now-active[series] < time.Duration(rule.For) {
				continue
			}
			for _, name := range annotationLabel.FindAllStringSubmatch(rule.Annotations["summary"]+rule.Annotations["description"], -1) {
				if sample.Metric.Get(name[1]) == "" {
					t.Errorf("the summary tells of a label %s, which %s has not", name[1], series)
				}
			}
			return now
		}
		since = active
	}
	return -1
}
