package manifests

import (
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
)

// perSecond are Grafana's names of what happens so often in a second.
var perSecond = map[string]bool{"ops": true, "reqps": true, "cps": true}

// CheckUnit says what is wrong about a panel that shows what a query yields as values of a unit. What it yields
// is told by the names of metrics, which end in their unit, and by what PromQL makes of them.
func CheckUnit(query, unit string) error {
	expression, err := parser.ParseExpr(Query(query))
	if err != nil {
		return err
	}
	if yields := unitOf(expression); yields != unit && (yields != "per second" || !perSecond[unit]) {
		return fmt.Errorf("%q yields %s and is shown as %q", query, yields, unit)
	}
	return nil
}

// unitOf is Grafana's name of a unit, or "per second".
func unitOf(node parser.Node) string {
	switch e := node.(type) {
	case *parser.ParenExpr:
		return unitOf(e.Expr)
	case *parser.AggregateExpr:
		if e.Op == parser.COUNT {
			return "short"
		}
		return unitOf(e.Expr)
	case *parser.BinaryExpr:
		return unitOf(e.RHS)
	case *parser.MatrixSelector:
		return unitOf(e.VectorSelector)
	case *parser.VectorSelector:
		return unitOfMetric(e.Name)
	case *parser.Call:
		return unitOfCall(e)
	default:
		return fmt.Sprintf("something unknown (%T)", node)
	}
}

func unitOfCall(call *parser.Call) string {
	switch call.Func.Name {
	case "histogram_quantile":
		// Of the buckets, however they were counted.
		unit := ""
		parser.Inspect(call.Args[1], func(node parser.Node, _ []parser.Node) error {
			if selector, ok := node.(*parser.VectorSelector); ok {
				unit = unitOfMetric(selector.Name)
			}
			return nil
		})
		return unit
	case "rate":
		if unitOf(call.Args[0]) == "s" {
			return "percentunit" // of a second
		}
		return "per second"
	case "increase":
		return unitOf(call.Args[0])
	default:
		return "something unknown (" + call.Func.Name + ")"
	}
}

func unitOfMetric(name string) string {
	for _, suffix := range []string{"_bucket", "_total"} {
		name = strings.TrimSuffix(name, suffix)
	}
	switch {
	case strings.HasSuffix(name, "_seconds"):
		return "s"
	case strings.HasSuffix(name, "_bytes"):
		return "bytes"
	default:
		return "short"
	}
}
