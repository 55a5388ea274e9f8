package dashboard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

func TestMain(m *testing.M) { lab.Main(m) }

const (
	// bound is how long the panels may take to have something to draw.
	bound = time.Minute
	// scrapeInterval is shorter than in a cluster, and rateInterval what Grafana makes of it: four times.
	scrapeInterval = 500 * time.Millisecond
	rateInterval   = "2s"
)

// mayBeZero are queries, by their legends, that have zeros in a cluster where all goes well, and why this
// test does not make it go wrong.
var mayBeZero = map[string]string{
	"failed syncs {{instance}}":         "a kernel that refuses what it took before cannot be had",
	"left out {{instance}}: {{reason}}": "test/agent writes such addresses into slices",
	"flows ended":                       "test/dataplane ends UDP flows",
	"waiting":                           "work is taken at once",
	"seconds in work":                   "work is done before it is looked at",
}

const shop = `apiVersion: net.servicegroup.dev/v1alpha1
kind: ServiceGroup
metadata: {name: shop, namespace: default}
spec:
  groups: [{name: web, selector: {matchLabels: {app: web}}}]
  ports: [{name: http, port: 80}]
`

// TestEveryPanelDraws runs the dashboard's queries on what Prometheus has of a manager and two agents that
// have something to do: each gives a series with the labels that its legend shows, and a value.
func TestEveryPanelDraws(t *testing.T) {
	lab.Require(t)
	dashboard, err := manifests.ReadDashboard()
	if err != nil {
		t.Fatal(err)
	}
	l, targets := startCluster(t)
	keepBusy(t, l)
	p, start := newPrometheus(t, ""), time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	ticker := time.NewTicker(scrapeInterval)
	defer ticker.Stop()
	missing := errors.New("nothing was scraped")
	for ; missing != nil; missing = p.undrawn(t.Context(), t, dashboard, start, time.Now()) {
		select {
		case <-ctx.Done():
			t.Fatalf("after %s:\n%v", bound, missing)
		case <-ticker.C:
		}
		for _, of := range targets {
			if err := p.scrape(t.Context(), of); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// startCluster starts what is watched.
func startCluster(t *testing.T) (*lab.Lab, []target) {
	t.Helper()
	l, err := lab.Start(t.Context(), lab.Options{
		Nodes: 2, Manager: true, Agents: true, AgentArgs: []string{"--connection-counters"},
		ManagerArgs: []string{"--metrics-bind-address=:8443", "--metrics-secure=false"},
	})
	if err != nil {
		t.Fatalf("starting the lab: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	fabric := l.Network.Fabric
	manager := net.JoinHostPort(fabric.IPv4.String(), "8443")
	targets := []target{{job: "servicegroup-manager-metrics", instance: manager, from: fabric, url: "http://" + manager + "/metrics"}}
	for _, node := range l.Nodes() {
		// The lab's agents serve their metrics on the node's loopback.
		targets = append(targets, target{
			job: "servicegroup-agent-metrics", instance: net.JoinHostPort(node.IPv4.String(), "10249"), from: node.Host, url: "http://127.0.0.1:10249/metrics",
		})
	}
	return l, targets
}

// keepBusy makes connections and changes until the test ends: pods that come and go, and somebody else who
// changes the tables of a node.
func keepBusy(t *testing.T, l *lab.Lab) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	pods, err := l.RunPods(ctx, lab.PodSpec{Name: "web", Labels: map[string]string{"app": "web"}, Ports: []lab.Port{lab.TCP(80)}}, 3)
	if err != nil {
		t.Fatal(err)
	}
	visitor, err := l.RunPod(ctx, lab.PodSpec{Name: "visitor", Node: "node1"})
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, l, shop, "apply", "-f", "-")
	kubectl(t, l, "", "wait", "--for=condition=Programmed", "svcg/shop", "--timeout=30s")
	vip := kubectl(t, l, "", "get", "service", "shop", "-o", "jsonpath={.spec.clusterIP}")
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ready := false; ctx.Err() == nil; ready = !ready {
			// What fails here is missing in the panels.
			_ = pods[2].SetReady(ctx, ready)
			_, _ = visitor.Ask(ctx, "tcp", net.JoinHostPort(vip, "80"))
			_, _ = l.Nodes()[0].Output(ctx, "nft", "delete", "element", "ip", "servicegroup", "virtual-ips", "{", vip, "}")
		}
	}()
}

func kubectl(t *testing.T, l *lab.Lab, input string, args ...string) string {
	t.Helper()
	cmd, err := l.ControlPlane.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// undrawn says what panels lack, with all nodes chosen and with each alone.
func (p *prometheus) undrawn(ctx context.Context, t *testing.T, dashboard *manifests.Dashboard, start, end time.Time) error {
	t.Helper()
	instances, err := p.choices(ctx, dashboard, end)
	if err != nil {
		return err
	}
	var missing []error
	for _, instance := range instances {
		filledIn := strings.NewReplacer("$__rate_interval", rateInterval, "$instance", instance)
		for _, panel := range dashboard.Panels {
			for _, query := range panel.Targets {
				found, err := p.during(ctx, filledIn.Replace(query.Expr), start, end)
				if err == nil {
					err = drawable(found, query.LegendFormat, instance == instances[0])
				}
				if err != nil {
					missing = append(missing, fmt.Errorf("panel %q, query %s, node %s: %w", panel.Title, query.RefID, instance, err))
				}
			}
		}
	}
	return errors.Join(missing...)
}

var labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)

// choices are what the user can choose of the variable instance, with all of them first.
func (p *prometheus) choices(ctx context.Context, dashboard *manifests.Dashboard, now time.Time) ([]string, error) {
	for _, variable := range dashboard.Templating.List {
		if variable.Name != "instance" {
			continue
		}
		query := labelValues.FindStringSubmatch(variable.Query)
		if query == nil {
			return nil, fmt.Errorf("the variable instance has the query %q", variable.Query)
		}
		found, err := p.at(ctx, query[1], now)
		if err != nil {
			return nil, err
		}
		out := []string{variable.AllValue}
		for _, sample := range found {
			// As Grafana fills it into a string of PromQL.
			out = append(out, strings.ReplaceAll(regexp.QuoteMeta(sample.Metric.Get(query[2])), `\`, `\\`))
		}
		if len(out) != 3 {
			return nil, fmt.Errorf("the user can choose %v, want all and two nodes", out)
		}
		return out, nil
	}
	return nil, errors.New("there is no variable instance")
}

var legendLabel = regexp.MustCompile(`{{(\w+)}}`)

// drawable says why there is nothing to draw. What one node has may be zero.
func drawable(found promql.Matrix, legend string, everywhere bool) error {
	complete, positive := false, false
	for _, series := range found {
		named := true
		for _, name := range legendLabel.FindAllStringSubmatch(legend, -1) {
			named = named && series.Metric.Get(name[1]) != ""
		}
		for _, point := range series.Floats {
			complete = complete || named && !math.IsNaN(point.F)
			positive = positive || point.F > 0
		}
	}
	switch _, zero := mayBeZero[legend]; {
	case len(found) == 0:
		return errors.New("no series")
	case !complete:
		return fmt.Errorf("no value with the labels of the legend %q", legend)
	case !positive && !zero && everywhere:
		return fmt.Errorf("nothing but zeros as %q", legend)
	}
	return nil
}
