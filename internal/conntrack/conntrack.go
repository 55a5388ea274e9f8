package conntrack

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// attempts bounds how often the table is read again because it changed while it was read.
const attempts = 5

// Table is the connection table of one network namespace.
type Table struct {
	handle *netlink.Handle
}

// Open connects to the connection table of the calling thread's network namespace. It needs
// CAP_NET_ADMIN there. The caller closes the Table.
func Open() (*Table, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket for connection tracking: %w", err)
	}
	return &Table{handle: handle}, nil
}

// Close frees the connection.
func (t *Table) Close() { t.handle.Close() }

// DeleteStale deletes the UDP flows to these frontends that none of their endpoints answers, and
// returns how many there were.
func (t *Table) DeleteStale(frontends []ruleset.Serving) (int, error) {
	total := 0
	for _, ipv4 := range []bool{true, false} {
		filter := newStale(frontends, ipv4)
		if len(filter) == 0 {
			continue
		}
		family := netlink.InetFamily(unix.AF_INET)
		if !ipv4 {
			family = unix.AF_INET6
		}
		n, err := t.delete(family, filter)
		total += n
		if err != nil {
			return total, fmt.Errorf("deleting stale UDP flows: %w", err)
		}
	}
	return total, nil
}

func (t *Table) delete(family netlink.InetFamily, filter stale) (int, error) {
	total := 0
	var err error
	for range attempts {
		var n uint
		n, err = t.handle.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter)
		total += int(n)
		// The table changed under the reader: what was read is worked off, the rest is to be read.
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return total, err
}

// stale matches the flows to end: for each frontend, the endpoints that may answer.
type stale map[proxy.Key]map[proxy.Endpoint]struct{}

func newStale(frontends []ruleset.Serving, ipv4 bool) stale {
	filter := stale{}
	for _, f := range frontends {
		if f.Key.Addr.Is4() != ipv4 || f.Key.Protocol != proxy.UDP {
			continue
		}
		serving := make(map[proxy.Endpoint]struct{}, len(f.Endpoints))
		for _, ep := range f.Endpoints {
			serving[ep] = struct{}{}
		}
		filter[f.Key] = serving
	}
	return filter
}

// MatchConntrackFlow says whether a flow is stale. A flow that was not translated has its
// destination as the one who answers: it is stale if the frontend now has endpoints, since it came
// before them, and belongs to the node itself if not.
func (s stale) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	destination, ok := netip.AddrFromSlice(flow.Forward.DstIP)
	if !ok {
		return false
	}
	key := proxy.Key{Addr: destination.Unmap(), Port: flow.Forward.DstPort, Protocol: proxy.UDP}
	serving, ours := s[key]
	if !ours {
		return false
	}
	source, ok := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok {
		return false
	}
	answers := proxy.Endpoint{Addr: source.Unmap(), Port: flow.Reverse.SrcPort}
	if _, valid := serving[answers]; valid {
		return false
	}
	translated := answers.Addr != key.Addr || answers.Port != key.Port
	return translated || len(serving) > 0
}
