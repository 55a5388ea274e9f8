package trace

import (
	"fmt"
	"math"
	"slices"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// Compare says how the way of a packet differs from the one it should go; nothing where it does not.
func Compare(should, does Way) []string {
	var out []string
	if should.Verdict != does.Verdict {
		out = append(out, fmt.Sprintf("the connection should be %s and is %s", should.Verdict, does.Verdict))
	}
	if should.AffinitySeconds != does.AffinitySeconds {
		out = append(out, fmt.Sprintf("session affinity should last %d seconds and lasts %d", should.AffinitySeconds, does.AffinitySeconds))
	}
	if kept := does.Remembered; kept != nil && should.Remembered == nil {
		return append(out, fmt.Sprintf("the client keeps %s for %d s more, which should not be among the choices", kept.Endpoint, kept.Seconds))
	}
	has := byEndpoint(does.Choices)
	for _, want := range should.Choices {
		got, found := has[want.Endpoint]
		delete(has, want.Endpoint)
		switch {
		case !found:
			out = append(out, fmt.Sprintf("endpoint %s should be among the choices and is not", want.Endpoint))
			continue
		case math.Abs(want.Share-got.Share) > 1e-9 && len(should.Choices) == len(does.Choices):
			out = append(out, fmt.Sprintf("endpoint %s should have a share of %.1f %% and has %.1f %%", want.Endpoint, 100*want.Share, 100*got.Share))
		}
		if (want.Masqueraded == "") != (got.Masqueraded == "") {
			out = append(out, fmt.Sprintf("endpoint %s should see %s and does not", want.Endpoint, seen(want)))
		}
	}
	for _, c := range does.Choices {
		if _, extra := has[c.Endpoint]; extra {
			out = append(out, fmt.Sprintf("endpoint %s should not be among the choices and is", c.Endpoint))
		}
	}
	return out
}

func seen(c Choice) string {
	if c.Masqueraded != "" {
		return "the node's address"
	}
	return "the client's address"
}

func byEndpoint(choices []Choice) map[proxy.Endpoint]Choice {
	out := map[proxy.Endpoint]Choice{}
	for _, c := range choices {
		out[c.Endpoint] = c
	}
	return out
}

// Difference is elements that only one of two sides has.
type Difference struct {
	// Missing are those that should be there, Surplus those that should not.
	Missing []string `json:"missing,omitempty"`
	Surplus []string `json:"surplus,omitempty"`
}

// DiffElements compares the elements that should be with those that are. Which slot an endpoint has
// depends on history, so it does not count.
func DiffElements(should, are []ruleset.Element) Difference {
	surplus := map[ruleset.Element]int{}
	for _, e := range are {
		e.Slot = 0
		surplus[e]++
	}
	var out Difference
	for _, e := range should {
		e.Slot = 0
		if surplus[e] == 0 {
			out.Missing = append(out.Missing, textOf(e))
			continue
		}
		surplus[e]--
	}
	for e, n := range surplus {
		if n > 0 {
			out.Surplus = append(out.Surplus, textOf(e))
		}
	}
	slices.Sort(out.Missing)
	slices.Sort(out.Surplus)
	return out
}

func textOf(e ruleset.Element) string {
	if e.Map == ruleset.Endpoints || e.Map == ruleset.InsideEndpoints {
		return fmt.Sprintf("%s: %s -> %s", e.Map, e.Key, e.Endpoint)
	}
	return e.String()
}
