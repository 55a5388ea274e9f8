package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// tolerance is how far from its fair share a pod may be, as a fraction of the share.
const tolerance = 0.20

// table has who answered how often, a row per target.
type table struct {
	rows []row
}

type row struct {
	target   string
	want     []string // the pods that should answer
	tally    lab.Tally
	problems []string
	off      float64 // the largest distance from the fair share, as a fraction of it
}

func (t *table) add(to target, tally lab.Tally) {
	r := row{target: to.String(), tally: tally}
	for _, pod := range to.group.pods {
		r.want = append(r.want, pod.PodName)
	}
	slices.Sort(r.want)
	r.judge()
	t.rows = append(t.rows, r)
}

// judge finds what is wrong with the row.
func (r *row) judge() {
	if r.tally.Total() == 0 || len(r.want) == 0 {
		r.problems = append(r.problems, "no connection was made")
		return
	}
	fair := float64(r.tally.Total()) / float64(len(r.want))
	for _, pod := range r.want {
		off := float64(r.tally.Answers[pod])/fair - 1
		r.off = max(r.off, max(off, -off))
		if max(off, -off) > tolerance {
			r.problems = append(r.problems, fmt.Sprintf("%s is %+.0f %% off its fair share", pod, 100*off))
		}
	}
	for _, pod := range slices.Sorted(maps.Keys(r.tally.Answers)) {
		if !slices.Contains(r.want, pod) {
			r.problems = append(r.problems, fmt.Sprintf("answered by %s", pod))
		}
	}
	if r.tally.Failed > 0 {
		r.problems = append(r.problems, fmt.Sprintf("%d connections failed, such as: %v", r.tally.Failed, r.tally.Errors[0]))
	}
}

// print prints the rows from first on. Every pod that answered or should have has a column.
func (t *table) print(out io.Writer, first int) {
	columns := map[string]bool{}
	for _, r := range t.rows[first:] {
		for _, pod := range r.want {
			columns[pod] = true
		}
		for pod := range r.tally.Answers {
			columns[pod] = true
		}
	}
	pods := slices.Sorted(maps.Keys(columns))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "    TARGET\t%s\tFAILED\tWORST SHARE\n", strings.ToUpper(strings.Join(pods, "\t")))
	for _, r := range t.rows[first:] {
		fmt.Fprintf(w, "    %s", r.target)
		for _, pod := range pods {
			if n := r.tally.Answers[pod]; n > 0 {
				fmt.Fprintf(w, "\t%d", n)
			} else {
				fmt.Fprint(w, "\t-")
			}
		}
		fmt.Fprintf(w, "\t%d\t%.1f %% off\n", r.tally.Failed, 100*r.off)
	}
	// The writer beneath is standard output; there is nobody left to tell that it failed.
	_ = w.Flush()
}
