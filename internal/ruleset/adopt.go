package ruleset

import (
	"iter"
	"slices"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// Tables is what was read back from the kernel.
type Tables struct {
	// Elements are sorted.
	Elements []Element
	// Learners are the learn chains there are.
	Learners []FamilyChain
	// Counted says that the tables count connections.
	Counted bool
}

// Adopt returns the state for an update that holds everything there is to serve, and the writes that
// bring tables with the constant layout and this content there. Endpoints keep the slots they have,
// so tables that are right already are not written to. Services keep the frontends that they had in
// former, which may be nil, as with [State.Inherit].
func Adopt(found Tables, update Update, former *State) (*State, Result) {
	state := NewState()
	state.Inherit(former)
	state.counted = found.Counted
	state.hints = slotsOf(found.Elements)
	state.shares.adopt(found.Elements)
	result := state.Apply(update)
	state.hints, state.shares.hints, state.shares.taken = nil, nil, nil

	change := Diff(found.Elements, state.Elements())
	for c := range state.learners {
		if !slices.Contains(found.Learners, c) {
			change.AddChains = append(change.AddChains, c)
		}
	}
	for _, c := range found.Learners {
		if state.learners[c] == 0 {
			change.DeleteChains = append(change.DeleteChains, c)
		}
	}
	change.UDP = append(state.servingUDP(), state.gone(keysOf(found.Elements))...)
	change.Forget = state.computeForgotten(found.Elements)
	result.Change = change
	return state, result
}

func keysOf(elements []Element) iter.Seq[proxy.Key] {
	return func(yield func(proxy.Key) bool) {
		for i := range elements {
			if elements[i].Map == Frontends && !yield(elements[i].Key) {
				return
			}
		}
	}
}

// Sessions are what session affinity remembers in tables that are going to be replaced, and the elements of
// AffinityShares there: the numbers by which it does.
type Sessions struct {
	Shares  []Element
	Clients []Remembered
}

// Renew applies an update that holds everything there is to serve to a state without elements, for tables
// that replace others. Clients keep their endpoints, as far as these still serve.
func (s *State) Renew(old Sessions, update Update) Result {
	s.shares.adopt(old.Shares)
	result := s.Apply(update)
	s.shares.hints, s.shares.taken = nil, nil
	serving := s.servingByShare()
	for _, client := range old.Clients {
		if _, stays := serving[Forget{IPv4: client.Client.Is4(), Share: client.Share}][client.Endpoint]; stays {
			result.Change.Remember = append(result.Change.Remember, client)
		}
	}
	return result
}

// slotMap is a frontend in one of the two endpoint maps.
type slotMap struct {
	m   Map
	key proxy.Key
}

// slotsOf returns the endpoints of each frontend in slot order. Slots behind a missing one are left
// out: whatever wrote them was not us.
func slotsOf(sorted []Element) map[slotMap][]proxy.Endpoint {
	out := map[slotMap][]proxy.Endpoint{}
	for _, e := range sorted {
		if e.Map != Endpoints && e.Map != InsideEndpoints {
			continue
		}
		at := slotMap{e.Map, e.Key}
		if int(e.Slot) == len(out[at]) {
			out[at] = append(out[at], e.Endpoint)
		}
	}
	return out
}

// Diff returns the writes that lead from one sorted list of elements to another.
func Diff(old, want []Element) Change {
	var change Change
	for len(old) > 0 || len(want) > 0 {
		order := 0
		switch {
		case len(old) == 0:
			order = 1
		case len(want) == 0:
			order = -1
		default:
			order = old[0].Compare(want[0])
		}
		if order == 0 && old[0] == want[0] {
			old, want = old[1:], want[1:]
			continue
		}
		if order <= 0 {
			change.Delete = append(change.Delete, old[0])
			old = old[1:]
		}
		if order >= 0 {
			change.Add = append(change.Add, want[0])
			want = want[1:]
		}
	}
	return change
}

// computeForgotten returns the clients whose endpoint left while nobody looked: of the frontends
// that had session affinity, the endpoints that are no longer theirs.
func (s *State) computeForgotten(found []Element) []Forget {
	serving := s.servingByShare()
	had := map[proxy.Key]Forget{}
	var out []Forget
	for _, e := range found {
		if e.Map != AffinityShares {
			continue
		}
		at := Forget{IPv4: e.IPv4(), Share: e.Chain.N}
		had[e.Key] = at
		if serving[at] == nil {
			out = append(out, at)
		}
	}
	for _, e := range found {
		at, sticky := had[e.Key]
		if !sticky || serving[at] == nil || e.Map != Endpoints && e.Map != InsideEndpoints {
			continue
		}
		if _, stays := serving[at][e.Endpoint]; !stays {
			at.Endpoint = e.Endpoint
			out = append(out, at)
		}
	}
	return out
}

// servingByShare returns the endpoints of each number in AffinityShares, without which a client there would
// be forgotten.
func (s *State) servingByShare() map[Forget]map[proxy.Endpoint]struct{} {
	serving := map[Forget]map[proxy.Endpoint]struct{}{}
	for _, c := range s.services {
		for i := range c.frontends {
			f := &c.frontends[i]
			if f.share == nil {
				continue
			}
			at := Forget{IPv4: f.Addr.Is4(), Share: f.share.number}
			if serving[at] == nil {
				serving[at] = map[proxy.Endpoint]struct{}{}
			}
			for _, ep := range f.all() {
				serving[at][ep] = struct{}{}
			}
		}
	}
	return serving
}
