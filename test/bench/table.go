package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// table is rows of text; the first is the heading.
type table [][]string

// rows are the report's table: a row per size and quantity, a column per proxy, and behind each other
// proxy how many times better the agent is.
func (r *report) rows() table {
	out := table{{"Services", "measured", nameAgent, nameNFTables, "ratio", nameIPTables, "ratio"}}
	for _, size := range r.sizes() {
		for _, q := range quantities() {
			row := []string{fmt.Sprint(size), q.name + " [" + q.unit + "]", r.get(size, nameAgent, q).text(q)}
			for _, other := range []string{nameNFTables, nameIPTables} {
				row = append(row, r.get(size, other, q).text(q), r.ratioText(size, other, q))
			}
			if slices.ContainsFunc(row[2:], func(s string) bool { return s != "" }) {
				out = append(out, row)
			}
		}
	}
	return out
}

// text is the median with the spread of the rounds or the number of samples.
func (f *figure) text(q quantity) string {
	if f == nil {
		return ""
	}
	number := func(v float64) string { return fmt.Sprintf("%.*f", q.digits, v) }
	switch low, high := slices.Min(f.values), slices.Max(f.values); {
	case f.atLeast:
		return "> " + number(f.median()) + ", gave up"
	case f.samples > 0:
		return fmt.Sprintf("%s (n=%d)", number(f.median()), f.samples)
	case len(f.values) > 1:
		return fmt.Sprintf("%s (%s-%s)", number(f.median()), number(low), number(high))
	default:
		return number(f.median())
	}
}

func (r *report) ratioText(size int, other string, q quantity) string {
	ratio := r.ratio(size, other, q)
	text := timesText(ratio.times)
	switch {
	case ratio.times == 0:
		return ""
	case ratio.atLeast:
		return "> " + text
	case ratio.low > 0:
		return fmt.Sprintf("%s (%.2f-%.2f)", text, ratio.low, ratio.high)
	default:
		return text
	}
}

func timesText(times float64) string {
	switch {
	case times >= 100:
		return fmt.Sprintf("%.0fx", times)
	case times >= 10:
		return fmt.Sprintf("%.1fx", times)
	default:
		return fmt.Sprintf("%.2fx", times)
	}
}

// text lays the table out in columns.
func (t table) text() string {
	widths := make([]int, len(t[0]))
	for _, row := range t {
		for i, field := range row {
			widths[i] = max(widths[i], len(field))
		}
	}
	var out strings.Builder
	for _, row := range t {
		var line strings.Builder
		for i, field := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[i], field)
		}
		fmt.Fprintln(&out, strings.TrimRight(line.String(), " "))
	}
	return out.String()
}

// markdown is the table for docs.
func (t table) markdown() string {
	var out strings.Builder
	for i, row := range t {
		fmt.Fprintln(&out, "| "+strings.Join(row, " | ")+" |")
		if i == 0 {
			fmt.Fprintln(&out, "|"+strings.Repeat("---|", len(row)))
		}
	}
	return out.String()
}

// writeText writes the table and what it was measured on.
func (r *report) writeText(to io.Writer) error {
	_, err := fmt.Fprintf(to, "\n%s\n%s", r.rows().text(), describeMachine())
	if err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return nil
}
