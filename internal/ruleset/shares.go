package ruleset

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// shares numbers what frontends with session affinity share their clients' endpoints by: a client that
// comes by the virtual IP and by a NodePort has one endpoint.
type shares struct {
	numbers  map[sharing]*share
	byNumber map[uint32]*share
	// last is the highest number given. Numbers are not given again: an entry that packets wrote may
	// outlast its frontends.
	last uint32
	// hints are the numbers that frontends should have, while tables are adopted, and taken those that
	// some have.
	hints map[proxy.Key]uint32
	taken map[uint32]bool
}

// sharing is what the frontends with one number have in common.
type sharing struct {
	service  types.NamespacedName
	port     uint16
	protocol proxy.Protocol
	among    proxy.AffinityShare
	ipv4     bool
}

// share is a number in AffinityShares, and how many frontends have it.
type share struct {
	sharing
	number    uint32
	frontends int
}

func newShares() shares {
	return shares{numbers: map[sharing]*share{}, byNumber: map[uint32]*share{}}
}

// copy returns the same numbers, with no frontends that have them.
func (s *shares) copy() shares {
	out := newShares()
	out.last = s.last
	for of, n := range s.numbers {
		out.numbers[of] = &share{sharing: of, number: n.number}
	}
	return out
}

// adopt makes frontends keep the numbers they have in the kernel.
func (s *shares) adopt(elements []Element) {
	s.hints, s.taken = map[proxy.Key]uint32{}, map[uint32]bool{}
	for _, e := range elements {
		if e.Map == AffinityShares {
			s.hints[e.Key] = e.Chain.N
			s.last = max(s.last, e.Chain.N)
		}
	}
}

// take returns the share of a frontend, nil without session affinity.
func (s *shares) take(service types.NamespacedName, f *proxy.Frontend) *share {
	if f.AffinitySeconds == 0 {
		return nil
	}
	of := sharing{service, f.ServicePort, f.Protocol, f.AffinityShare, f.Addr.Is4()}
	n := s.numbers[of]
	if n == nil {
		n = &share{sharing: of, number: s.next(f.Key)}
		s.numbers[of], s.byNumber[n.number] = n, n
	}
	n.frontends++
	return n
}

func (s *shares) next(key proxy.Key) uint32 {
	if hint := s.hints[key]; hint != 0 && !s.taken[hint] {
		s.taken[hint] = true
		return hint
	}
	s.last++
	return s.last
}

// Remembered is a client in the affinity maps: packets put it there, so no State has it.
type Remembered struct {
	Client netip.Addr `json:"client"`
	// Share is the number in AffinityShares of the frontends it came by.
	Share    uint32         `json:"share"`
	Endpoint proxy.Endpoint `json:"endpoint"`
	// Seconds is how much longer it keeps its endpoint without another connection.
	Seconds uint32 `json:"seconds"`
}

func (r Remembered) String() string {
	return fmt.Sprintf("%s -> %s for %d s more", r.Client, r.Endpoint, r.Seconds)
}

// SharesOf returns the numbers in AffinityShares of one family's frontends, sorted.
func SharesOf(elements []Element, ipv4 bool) []uint32 {
	numbers := map[uint32]struct{}{}
	for _, e := range elements {
		if e.Map == AffinityShares && e.IPv4() == ipv4 {
			numbers[e.Chain.N] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(numbers))
}

// giveUp notes that a frontend no longer has its share. Without any frontend left, all clients are
// forgotten.
func (u *updater) giveUp(n *share) {
	if n == nil {
		return
	}
	if n.frontends--; n.frontends == 0 {
		delete(u.shares.numbers, n.sharing)
		delete(u.shares.byNumber, n.number)
		u.change.Forget = append(u.change.Forget, Forget{IPv4: n.ipv4, Share: n.number})
	}
}

// Serves reports whether an endpoint is still one of those that the clients of a share may have.
func (s *State) Serves(client Forget) bool {
	n := s.shares.byNumber[client.Share]
	if n == nil || n.ipv4 != client.IPv4 || s.services[n.service] == nil {
		return false
	}
	return slices.ContainsFunc(s.services[n.service].frontends, func(f frontend) bool {
		return f.share == n && (slices.Contains(f.Endpoints, client.Endpoint) || slices.Contains(f.ClusterEndpoints, client.Endpoint))
	})
}
