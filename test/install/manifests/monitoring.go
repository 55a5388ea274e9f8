package manifests

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
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
	ID          int
	Type        string
	Title       string
	GridPos     struct{ H, W, X, Y int }
	Datasource  Datasource
	Targets     []Target
	FieldConfig struct {
		Defaults  struct{ Unit string }
		Overrides []Override
	}
}

// Target is a query of a panel.
type Target struct {
	Expr, RefID, LegendFormat string
	Datasource                Datasource
}

// Datasource is whom to ask.
type Datasource struct{ Type, UID string }

// Override is what holds for some of the series of a panel.
type Override struct {
	Matcher    struct{ ID, Options string }
	Properties []struct{ ID, Value string }
}

// Unit is that of the series of a target.
func (p *Panel) Unit(of Target) string {
	for _, override := range p.FieldConfig.Overrides {
		if override.Matcher.ID != "byName" || override.Matcher.Options != of.LegendFormat {
			continue
		}
		for _, property := range override.Properties {
			if property.ID == "unit" {
				return property.Value
			}
		}
	}
	return p.FieldConfig.Defaults.Unit
}

// Variable is something the dashboard's user chooses.
type Variable struct{ Name, Type, Query, AllValue string }

// ReadDashboard reads the Grafana dashboard, after Grafana's own model of dashboards, panels and queries has,
// which knows every field.
func ReadDashboard() (*Dashboard, error) {
	text, err := readMonitoring("servicegroup.json")
	if err != nil {
		return nil, err
	}
	plugins.RegisterDefaultPlugins()
	grafanas := dashboard.NewDashboard()
	if err := errors.Join(grafanas.UnmarshalJSONStrict(text), grafanas.Validate()); err != nil {
		return nil, fmt.Errorf("loading the dashboard as Grafana does: %w", err)
	}
	out := &Dashboard{}
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("reading the dashboard: %w", err)
	}
	return out, nil
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
