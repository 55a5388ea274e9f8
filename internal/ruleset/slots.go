package ruleset

import (
	"math/bits"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// MaxSlotsLog2 is the binary logarithm of the most slots that a frontend has: there is one pick chain for
// each power of two up to it.
const MaxSlotsLog2 = proxy.MaxEndpointsLog2

// slotsFor returns the modulus of the pick chain for n endpoints: the power of two at or above n.
func slotsFor(n int) uint32 {
	return 1 << bits.Len(uint(n-1))
}

// computeSlots places the wanted endpoints in slots: those that stay keep theirs, new ones fill the
// holes and then the end, and the last ones move into holes that remain. Slots 0 to n-1 are always
// all in use.
func computeSlots(old, want []proxy.Endpoint) []proxy.Endpoint {
	if len(old) == 0 || len(want) == 0 {
		return want // neither list is ever written to, so frontends with the same endpoints share one
	}
	missing := make(map[proxy.Endpoint]struct{}, len(want))
	for _, ep := range want {
		missing[ep] = struct{}{}
	}
	slots := append(make([]proxy.Endpoint, 0, max(len(old), len(want))), old...)
	var holes []int
	for i, ep := range slots {
		if _, stays := missing[ep]; stays {
			delete(missing, ep)
		} else {
			holes = append(holes, i)
		}
	}
	for _, ep := range want {
		if _, isNew := missing[ep]; !isNew {
			continue
		}
		if len(holes) > 0 {
			slots[holes[0]], holes = ep, holes[1:]
		} else {
			slots = append(slots, ep)
		}
	}
	return closeHoles(slots, holes)
}

// closeHoles moves the last endpoints into the holes, which are in ascending order.
func closeHoles(slots []proxy.Endpoint, holes []int) []proxy.Endpoint {
	for len(holes) > 0 {
		last := len(slots) - 1
		if holes[len(holes)-1] == last {
			holes = holes[:len(holes)-1]
		} else {
			slots[holes[0]], holes = slots[last], holes[1:]
		}
		slots = slots[:last]
	}
	return slots
}
