package main

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	for _, tc := range []struct {
		name, bench, sizes string
		want               []int
		fails              bool
	}{
		{name: "everything", want: []int{1, 1000, 10000, 30000}},
		{name: "quick", bench: "quick", want: []int{200}},
		{name: "sizes in any order", sizes: "10000, 1000", want: []int{1000, 10000}},
		{name: "not a mode", bench: "fast", fails: true},
		{name: "not a number", sizes: "many", fails: true},
		{name: "more than there are addresses for", sizes: "100000", fails: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			environment := map[string]string{"BENCH": tc.bench, "BENCH_SIZES": tc.sizes}
			o, err := optionsFromEnvironment(func(name string) string { return environment[name] })
			if (err != nil) != tc.fails {
				t.Fatalf("error %v, want one: %t", err, tc.fails)
			}
			if err == nil && !slices.Equal(o.sizes, tc.want) {
				t.Errorf("sizes %v, want %v", o.sizes, tc.want)
			}
		})
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 100 - i
	}
	for _, tc := range []struct {
		values        []int
		percent, want int
	}{
		{nil, 50, 0},
		{[]int{7}, 99, 7},
		{[]int{3, 1, 2}, 50, 2},
		{hundred, 50, 50},
		{hundred, 99, 99},
	} {
		if got := percentile(tc.values, tc.percent); got != tc.want {
			t.Errorf("percentile(%v, %d) = %d, want %d", tc.values, tc.percent, got, tc.want)
		}
	}
}

// TestMedianBounds: of 100 values around 0 they are the 40th and the 61st, and one extreme value moves
// neither.
func TestMedianBounds(t *testing.T) {
	var values []float64
	for i := range 100 {
		values = append(values, float64(i+1))
	}
	values[99] = 1e9
	if low, high := medianBounds(values); low != 40 || high != 61 {
		t.Errorf("%v to %v, want 40 to 61", low, high)
	}
	if low, high := medianBounds(values[:19]); low != 0 || high != 0 {
		t.Errorf("19 values: %v to %v, want none", low, high)
	}
}

func TestSeriesMatch(t *testing.T) {
	s := series{"syncs_seconds", `kind="change"`}
	for _, tc := range []struct {
		line, suffix string
		value        float64
		ok           bool
	}{
		{`syncs_seconds_sum{kind="change"} 0.25`, "_sum", 0.25, true},
		{`syncs_seconds_count{kind="change"} 3`, "_count", 3, true},
		{`syncs_seconds_bucket{kind="change",le="0.1"} 1`, "_bucket", 1, true},
		{line: `syncs_seconds_sum{kind="full"} 0.25`},
		{line: `# HELP syncs_seconds kind="change"`},
		{line: `other_sum{kind="change"} 1`},
	} {
		suffix, value, ok := s.match(tc.line)
		if ok != tc.ok || ok && (suffix != tc.suffix || value != tc.value) {
			t.Errorf("%s: %q %v %t", tc.line, suffix, value, ok)
		}
	}
}

func newTestReport() *report {
	r := newReport()
	r.at(1000, nameAgent).add(coldTotal, 0.2)
	r.at(1000, nameNFTables).add(coldTotal, 1)
	// The machine was slow in every second turn, and in the last one for the agent alone: by medians it
	// would have lost.
	for range 10 {
		for turn, ours := range []float64{300, 150} {
			r.at(1000, nameAgent).add(rate, ours)
			r.at(1000, nameNFTables).add(rate, []float64{200, 100}[turn])
		}
	}
	r.at(1000, nameAgent).add(rate, 160)
	r.at(1000, nameNFTables).add(rate, 200)
	r.at(30000, nameAgent).add(coldTotal, 0.5)
	r.at(30000, nameNFTables).atLeast(coldTotal, 600)
	r.at(1000, nameAgent).addTimes(writtenMedian, writtenTail, []time.Duration{time.Millisecond})
	r.at(1000, nameNFTables).addTimes(writtenMedian, writtenTail, []time.Duration{time.Second})
	return r
}

func TestRatio(t *testing.T) {
	r := newTestReport()
	for _, tc := range []struct {
		name, want string
		size       int
		quantity   quantity
	}{
		{"less is better", "5.00x", 1000, coldTotal},
		{"more is better, in turns", "1.50x (1.50-1.50)", 1000, rate},
		{"one gave up", "> 1200x", 30000, coldTotal},
		{"says nothing about the proxies", "", 1000, writtenMedian},
		{"not measured", "", 1000, resident},
	} {
		if got := r.ratioText(tc.size, nameNFTables, tc.quantity); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestPlotIsXML(t *testing.T) {
	for decoder := xml.NewDecoder(strings.NewReader(newTestReport().plot())); ; {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
