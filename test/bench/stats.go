package main

import (
	"cmp"
	"math"
	"slices"
)

// percentile is the smallest value that so many per cent of the values do not exceed.
func percentile[T cmp.Ordered](values []T, percent int) T {
	var zero T
	if len(values) == 0 {
		return zero
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

// medianBounds are two of the values that have the true median between them in at least 95 of 100 cases,
// whatever the distribution: how many of n values are below it is binomial. They are 0 for fewer than
// 20 values, which say too little.
func medianBounds(values []float64) (low, high float64) {
	n := len(values)
	if n < 20 {
		return 0, 0
	}
	sorted := slices.Sorted(slices.Values(values))
	at := int(float64(n)/2-0.98*math.Sqrt(float64(n))) - 1 // 1.96 standard deviations, which are sqrt(n)/2
	return sorted[at], sorted[n-1-at]
}
