package ruleset

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// diffRanges writes the difference between two lists of ranges and returns the new one. key is the
// frontend they belong to, for the sets that have one.
func (u *updater) diffRanges(m Map, key proxy.Key, old, want []netip.Prefix) []netip.Prefix {
	next := computeRanges(want)
	for _, prefix := range old {
		if !slices.Contains(next, prefix) {
			u.change.Delete = append(u.change.Delete, Element{Map: m, Key: key, Prefix: prefix})
		}
	}
	for _, prefix := range next {
		if !slices.Contains(old, prefix) {
			u.change.Add = append(u.change.Add, Element{Map: m, Key: key, Prefix: prefix})
		}
	}
	return next
}

// computeRanges sorts prefixes and leaves out those that others contain, since an interval set
// refuses overlapping elements.
func computeRanges(prefixes []netip.Prefix) []netip.Prefix {
	if prefixes == nil {
		return nil // everybody, where no range at all is nobody
	}
	sorted := make([]netip.Prefix, 0, len(prefixes))
	for _, prefix := range prefixes {
		sorted = append(sorted, prefix.Masked())
	}
	slices.SortFunc(sorted, func(x, y netip.Prefix) int {
		return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Bits(), y.Bits()))
	})
	out := sorted[:0]
	for _, prefix := range sorted {
		if len(out) == 0 || !out[len(out)-1].Overlaps(prefix) {
			out = append(out, prefix)
		}
	}
	return out
}
