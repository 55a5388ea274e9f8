package manifests

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// Dashboard is the part of a Grafana dashboard that tests look at.
type Dashboard struct {
	UID        string
	Title      string
	Panels     []Panel
	Templating struct{ List []Variable }
}

// Panel is a panel of a dashboard.
type Panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ H, W, X, Y int }
	Targets []struct{ Expr, RefID, LegendFormat string }
}

// Variable is something the dashboard's user chooses.
type Variable struct{ Name, Type, Query, AllValue string }

// ReadDashboard reads the Grafana dashboard.
func ReadDashboard() (*Dashboard, error) {
	text, err := readMonitoring("servicegroup.json")
	if err != nil {
		return nil, err
	}
	dashboard := &Dashboard{}
	if err := json.Unmarshal(text, dashboard); err != nil {
		return nil, fmt.Errorf("reading the dashboard: %w", err)
	}
	return dashboard, nil
}

// Alerts returns the rules of the PrometheusRule, read as Prometheus reads a rule file.
func Alerts() ([]rulefmt.Rule, error) {
	text, err := readMonitoring("rules.yaml")
	if err != nil {
		return nil, err
	}
	object := struct {
		Spec map[string]any `json:"spec"`
	}{}
	if err := yaml.Unmarshal(text, &object); err != nil {
		return nil, fmt.Errorf("reading the alert rules: %w", err)
	}
	if text, err = yaml.Marshal(object.Spec); err != nil {
		return nil, err
	}
	groups, errs := rulefmt.Parse(text, false, model.LegacyValidation)
	if len(errs) > 0 {
		return nil, fmt.Errorf("reading the alert rules: %w", errors.Join(errs...))
	}
	var out []rulefmt.Rule
	for _, group := range groups.Groups {
		out = append(out, group.Rules...)
	}
	return out, nil
}

// Query returns the PromQL of a panel, with Grafana's variables filled in.
func Query(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(expr)
}

func readMonitoring(name string) ([]byte, error) {
	root, err := lab.ModuleRoot()
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(root, "config", "components", "monitoring", name))
}
