package ruleset

import (
	"cmp"
	"net/netip"
	"slices"
)

// diffRanges writes the difference between two lists of source ranges and returns the new one.
func (u *updater) diffRanges(m Map, old, want []netip.Prefix) []netip.Prefix {
	next := computeRanges(want)
	for _, prefix := range old {
		if !slices.Contains(next, prefix) {
			u.change.Delete = append(u.change.Delete, Element{Map: m, Prefix: prefix})
		}
	}
	for _, prefix := range next {
		if !slices.Contains(old, prefix) {
			u.change.Add = append(u.change.Add, Element{Map: m, Prefix: prefix})
		}
	}
	return next
}

// computeRanges sorts prefixes and leaves out those that others contain, since an interval set
// refuses overlapping elements.
func computeRanges(prefixes []netip.Prefix) []netip.Prefix {
	sorted := make([]netip.Prefix, 0, len(prefixes))
	for _, prefix := range prefixes {
		sorted = append(sorted, prefix.Masked())
	}
	slices.SortFunc(sorted, func(x, y netip.Prefix) int {
		return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Bits(), y.Bits()))
	})
	var out []netip.Prefix
	for _, prefix := range sorted {
		if len(out) == 0 || !out[len(out)-1].Overlaps(prefix) {
			out = append(out, prefix)
		}
	}
	return out
}
