package main

import (
	"cmp"
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
