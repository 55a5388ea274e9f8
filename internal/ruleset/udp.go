package ruleset

import (
	"iter"
	"maps"
	"slices"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// Serving is a frontend with every endpoint that may answer a flow to it, in any order and perhaps twice; none
// if the frontend is gone or nobody serves it.
type Serving struct {
	Key       proxy.Key
	Endpoints []proxy.Endpoint
}

// servingUDP returns all UDP frontends, sorted. After a time that nobody looked, the flows of each may
// be stale: the tables do not tell which endpoints they had before.
func (s *State) servingUDP() []Serving {
	var out []Serving
	for _, c := range s.services {
		for i := range c.frontends {
			if f := &c.frontends[i]; f.Protocol == proxy.UDP {
				out = append(out, Serving{Key: f.Key, Endpoints: f.mayAnswer()})
			}
		}
	}
	slices.SortFunc(out, func(x, y Serving) int { return x.Key.Compare(y.Key) })
	return out
}

// Gone returns the UDP frontends of a former state, which may be nil, that no Service has any more.
func (s *State) Gone(former *State) []Serving {
	if former == nil {
		return nil
	}
	return s.gone(maps.Keys(former.owners))
}

// gone returns those of these UDP frontends that no Service has, sorted.
func (s *State) gone(keys iter.Seq[proxy.Key]) []Serving {
	var out []Serving
	for key := range keys {
		if _, served := s.owners[key]; key.Protocol == proxy.UDP && !served {
			out = append(out, Serving{Key: key})
		}
	}
	slices.SortFunc(out, func(x, y Serving) int { return x.Key.Compare(y.Key) })
	return out
}
