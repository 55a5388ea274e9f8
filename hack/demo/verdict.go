package main

import (
	"errors"
	"fmt"
	"strings"
)

// judge returns all that the table has against the product.
func (t *table) judge() error {
	var problems []error
	for _, r := range t.rows {
		for _, problem := range r.problems {
			problems = append(problems, fmt.Errorf("%s: %s", r.target, problem))
		}
	}
	return errors.Join(problems...)
}

// verdict prints the last line: PASS, or FAIL with what is wrong. err is the result of run.
func (d *demo) verdict(err error) {
	if err != nil {
		for _, process := range d.lab.ControlPlane.Processes() {
			if process.Name == "manager" || strings.HasPrefix(process.Name, "agent-") {
				fmt.Fprintf(d.out, "\n--- the end of the log of %s:\n%s\n", process.Name, process.Tail())
			}
		}
		fmt.Fprintf(d.out, "\nFAIL: %v\n", err)
		return
	}
	total, worst := 0, 0.0
	for _, r := range d.table.rows {
		total += r.tally.Total()
		worst = max(worst, r.off)
	}
	fmt.Fprintf(d.out, "\nPASS: %d connections, each answered by a pod of its port's own group; no pod is more than %.1f %% off its fair share (%.0f %% allowed).\n",
		total, 100*worst, 100*tolerance)
}
