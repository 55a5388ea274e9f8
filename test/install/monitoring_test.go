package install

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// TestQueriesParse: every query of alerts and dashboard is PromQL. That their metrics exist is for the
// end-to-end test to say.
func TestQueriesParse(t *testing.T) {
	names, err := manifests.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 10 {
		t.Errorf("alerts and dashboard know only the metrics %v", names)
	}
}

// TestAlertsHaveRunbooks: each says how bad it is and where to read on, and there is such a page with
// what to look for and what to do; and there is no page without an alert.
func TestAlertsHaveRunbooks(t *testing.T) {
	root, err := lab.ModuleRoot()
	must(t, "finding the repository", err)
	alerts, err := manifests.Alerts()
	must(t, "reading the alerts", err)
	pages, err := filepath.Glob(filepath.Join(root, "docs", "runbooks", "*.md"))
	must(t, "listing the runbooks", err)
	without := map[string]bool{}
	for _, page := range pages {
		without[filepath.Base(page)] = true
	}
	for _, rule := range alerts {
		if severity := rule.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s has the severity %q", rule.Alert, severity)
		}
		if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
			t.Errorf("%s does not say what it is about", rule.Alert)
		}
		name := rule.Alert + ".md"
		if want := "/docs/runbooks/" + name; !strings.HasSuffix(rule.Annotations["runbook_url"], want) {
			t.Errorf("%s has the runbook %q, want one that ends in %s", rule.Alert, rule.Annotations["runbook_url"], want)
		}
		page, err := os.ReadFile(filepath.Join(root, "docs", "runbooks", name))
		if err != nil {
			t.Error(err)
			continue
		}
		delete(without, name)
		for _, part := range []string{"# " + rule.Alert + "\n", "\n## What it means\n", "\n## Find out why\n", "\n## What to do\n"} {
			if !strings.Contains(string(page), part) {
				t.Errorf("%s lacks %q", name, strings.TrimSpace(part))
			}
		}
	}
	delete(without, "README.md")
	for name := range without {
		t.Errorf("docs/runbooks/%s is about no alert", name)
	}
}

var grafanaVariable = regexp.MustCompile(`\$(\w+)`)

// TestDashboard: Grafana's model takes it, the panels are of kinds that there are, placed beside and below each
// other, and ask the data source that the user chose something, with variables that there are, in the unit of
// what it yields.
func TestDashboard(t *testing.T) {
	dashboard, err := manifests.ReadDashboard()
	must(t, "reading the dashboard", err)
	if dashboard.UID == "" || dashboard.Title == "" || len(dashboard.Panels) == 0 {
		t.Fatalf("the dashboard is not one: %+v", dashboard)
	}
	variables := map[string]bool{"__rate_interval": true}
	for _, variable := range dashboard.Templating.List {
		variables[variable.Name] = true
	}
	ids, cells := map[int]bool{}, map[string]string{}
	for _, panel := range dashboard.Panels {
		if ids[panel.ID] || panel.Title == "" || len(panel.Targets) == 0 {
			t.Errorf("panel %d %q has an ID of another, no title or no query", panel.ID, panel.Title)
		}
		ids[panel.ID] = true
		if _, known := cog.ConfigForPanelcfgVariant(panel.Type); !known {
			t.Errorf("panel %q is a %q, which Grafana does not have", panel.Title, panel.Type)
		}
		chosen := manifests.Datasource{Type: "prometheus", UID: "$datasource"}
		if panel.Datasource != chosen {
			t.Errorf("panel %q asks %+v", panel.Title, panel.Datasource)
		}
		at := panel.GridPos
		if at.H < 1 || at.W < 1 || at.X < 0 || at.X+at.W > 24 {
			t.Errorf("panel %q is outside of the 24 columns: %+v", panel.Title, at)
		}
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				cell := fmt.Sprint(x, y)
				if cells[cell] != "" {
					t.Fatalf("panel %q lies on panel %q", panel.Title, cells[cell])
				}
				cells[cell] = panel.Title
			}
		}
		for _, target := range panel.Targets {
			if err := manifests.CheckUnit(target.Expr, panel.Unit(target)); err != nil || target.Datasource != chosen {
				t.Errorf("panel %q asks %+v: %v", panel.Title, target.Datasource, err)
			}
			for _, found := range grafanaVariable.FindAllStringSubmatch(target.Expr, -1) {
				if !variables[found[1]] {
					t.Errorf("panel %q uses the variable %s, which there is not", panel.Title, found[0])
				}
			}
		}
	}
}
