package main

import (
	"maps"
	"slices"
	"time"
)

// quantity is something that is measured, in the words of the table.
type quantity struct {
	name, unit string
	digits     int
	// more is set where more is better.
	more bool
	// plain is set where a ratio says nothing about the proxies.
	plain bool
	// paired is set where the proxies took turns: values of the same number were measured one right
	// after the other.
	paired bool
}

// The quantities, in the order of the table.
var (
	coldTotal        = quantity{name: "cold: from exec to the last Service answered", unit: "s", digits: 3}
	coldSync         = quantity{name: "cold: the proxy's own sync time", unit: "s", digits: 3}
	cpu              = quantity{name: "CPU time until programmed, with children", unit: "s", digits: 2}
	resident         = quantity{name: "resident memory when programmed", unit: "MB", digits: 0}
	settled          = quantity{name: "resident memory after all changes", unit: "MB", digits: 0}
	peak             = quantity{name: "peak resident memory", unit: "MB", digits: 0}
	changeSyncMedian = quantity{name: "one of ten endpoints changed: own sync time, p50", unit: "ms", digits: 2}
	changeSyncTail   = quantity{name: "one of ten endpoints changed: own sync time, p99", unit: "ms", digits: 2}
	answeredMedian   = quantity{name: "endpoint changed: API write to first answer by the new one, p50", unit: "ms", digits: 1}
	answeredTail     = quantity{name: "endpoint changed: API write to first answer by the new one, p99", unit: "ms", digits: 1}
	writtenMedian    = quantity{name: "of which the API write itself, p50", unit: "ms", digits: 1, plain: true}
	writtenTail      = quantity{name: "of which the API write itself, p99", unit: "ms", digits: 1, plain: true}
	rate             = quantity{name: "new connections per second, all Services in turn", unit: "1/s", digits: 0, more: true, paired: true}
	connectCost      = quantity{name: "CPU time per connection, with client and server", unit: "us", digits: 1, paired: true}
	connectMedian    = quantity{name: "connect latency, p50", unit: "us", digits: 0, paired: true}
	connectTail      = quantity{name: "connect latency, p99", unit: "us", digits: 0, paired: true}
)

func quantities() []quantity {
	return []quantity{
		coldTotal, coldSync, cpu, resident, settled, peak, changeSyncMedian, changeSyncTail, answeredMedian, answeredTail,
		writtenMedian, writtenTail, rate, connectCost, connectMedian, connectTail,
	}
}

// cell is where a figure belongs.
type cell struct {
	size     int
	proxy    string
	quantity quantity
}

// figure is what was measured of a quantity.
type figure struct {
	// values are those of the rounds; for percentiles there is one, over so many samples.
	values  []float64
	samples int
	// atLeast is set when the proxy was given up at this value.
	atLeast bool
}

func (f *figure) median() float64 { return percentile(f.values, 50) }

// report is everything that was measured.
type report struct{ figures map[cell]*figure }

func newReport() *report { return &report{figures: map[cell]*figure{}} }

// sink takes the figures of one proxy at one size.
type sink struct {
	report *report
	size   int
	proxy  string
}

func (r *report) at(size int, proxy string) sink { return sink{r, size, proxy} }

func (s sink) figure(q quantity) *figure {
	key := cell{s.size, s.proxy, q}
	if s.report.figures[key] == nil {
		s.report.figures[key] = &figure{}
	}
	return s.report.figures[key]
}

// add adds the value of a round.
func (s sink) add(q quantity, value float64) {
	f := s.figure(q)
	f.values = append(f.values, value)
}

// atLeast notes that the true value is greater.
func (s sink) atLeast(q quantity, value float64) {
	s.add(q, value)
	s.figure(q).atLeast = true
}

// addTimes adds percentiles in milliseconds.
func (s sink) addTimes(median, tail quantity, times []time.Duration) {
	for q, percent := range map[quantity]int{median: 50, tail: 99} {
		s.add(q, milli(percentile(times, percent)))
		s.figure(q).samples = len(times)
	}
}

// get is the figure, nil if there is none.
func (r *report) get(size int, proxy string, q quantity) *figure {
	return r.figures[cell{size, proxy, q}]
}

// sizes are those with a figure.
func (r *report) sizes() []int {
	seen := map[int]bool{}
	for key := range r.figures {
		seen[key.size] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// ratio is how many times better the agent is than another proxy.
type ratio struct {
	// times is 0 where there is nothing to compare.
	times float64
	// low and high have the true ratio between them in 95 of 100 cases; 0 where too few pairs say so.
	low, high float64
	// atLeast is set when the other was given up.
	atLeast bool
}

// ratio compares medians, or, where the proxies took turns, takes the median of each turn's ratio: so
// what else the machine did in the meantime is in both of a pair.
func (r *report) ratio(size int, other string, q quantity) ratio {
	ours, theirs := r.get(size, nameAgent, q), r.get(size, other, q)
	if ours == nil || theirs == nil || q.plain || ours.median() == 0 || theirs.median() == 0 {
		return ratio{}
	}
	times := func(ours, theirs float64) float64 {
		if q.more {
			return ours / theirs
		}
		return theirs / ours
	}
	if !q.paired || len(ours.values) != len(theirs.values) {
		return ratio{times: times(ours.median(), theirs.median()), atLeast: !q.more && theirs.atLeast}
	}
	var pairs []float64
	for i := range ours.values {
		pairs = append(pairs, times(ours.values[i], theirs.values[i]))
	}
	low, high := medianBounds(pairs)
	return ratio{times: percentile(pairs, 50), low: low, high: high}
}
