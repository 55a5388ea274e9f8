package describe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// UnknownError says that there is nothing of a name, and what there is.
type UnknownError struct {
	Kind, Name, Namespace string
	// Close are names that may have been meant; Others are the rest.
	Close, Others []string
}

// Unknown returns the error for a name that is not among those there are.
func Unknown(kind, name, namespace string, names []string) error {
	e := &UnknownError{Kind: kind, Name: name, Namespace: namespace}
	sorted := slices.SortedFunc(slices.Values(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(distance(name, a), distance(name, b)), cmp.Compare(a, b))
	})
	for _, other := range sorted {
		if distance(name, other) <= max(1, len(name)/3) || strings.HasPrefix(other, name) {
			e.Close = append(e.Close, other)
		} else {
			e.Others = append(e.Others, other)
		}
	}
	slices.Sort(e.Others)
	return e
}

func (e *UnknownError) Error() string {
	where := ""
	if e.Namespace != "" {
		where = " in namespace " + e.Namespace
	}
	text := fmt.Sprintf("there is no %s %s%s", e.Kind, e.Name, where)
	switch {
	case len(e.Close) > 0:
		return text + "; did you mean " + strings.Join(e.Close[:min(3, len(e.Close))], " or ") + "?"
	case len(e.Others) > 0:
		return text + "; there is " + list(e.Others)
	case e.Namespace != "":
		return text + ", nor any other; name another namespace with -n"
	}
	return text + ", nor any other"
}

// distance is how many letters must be added, removed or replaced.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
