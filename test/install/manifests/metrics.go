package manifests

import (
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
)

// Metrics returns the names of the metrics that alerts and dashboard ask for, each with where it is
// asked for. A query that is not PromQL is an error.
func Metrics() (map[string]string, error) {
	queries, err := queries()
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for where, query := range queries {
		expression, err := parser.ParseExpr(query)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", where, query, err)
		}
		parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
			if selector, ok := node.(*parser.VectorSelector); ok {
				names[strings.TrimSuffix(selector.Name, "_bucket")] = where
			}
			return nil
		})
	}
	return names, nil
}

// queries are the PromQL of alerts and dashboard, by where they are.
func queries() (map[string]string, error) {
	out := map[string]string{}
	alerts, err := Alerts()
	if err != nil {
		return nil, err
	}
	for _, rule := range alerts {
		out["alert "+rule.Alert] = rule.Expr
	}
	dashboard, err := ReadDashboard()
	if err != nil {
		return nil, err
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			out[fmt.Sprintf("panel %q, query %s", panel.Title, target.RefID)] = Query(target.Expr)
		}
	}
	return out, nil
}
