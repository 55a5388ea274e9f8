package conntrack

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// Table is the connection table of one network namespace. It is not safe for concurrent use.
type Table struct {
	conn *netlink.Conn
}

// Open connects to the connection table of the calling thread's network namespace. It needs
// CAP_NET_ADMIN there. The caller closes the Table.
func Open() (*Table, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket for connection tracking: %w", err)
	}
	return &Table{conn: conn}, nil
}

// Close frees the connection.
func (t *Table) Close() { _ = t.conn.Close() }

// maxWalks is up to how many frontends the kernel is asked for the flows of each. It goes through its
// whole table for each, but copies only what is asked for; for more frontends it is asked once, for
// all UDP flows, which takes as long as about so many walks.
const maxWalks = 16

// DeleteStale deletes the UDP flows to these frontends that none of their endpoints answers, and
// returns how many there were. Of one frontend that is named more than once, the last counts. A frontend
// that superseded names once the flows are listed is left alone: its endpoints have changed again, and a flow
// may be one to the new ones. Nil names none.
func (t *Table) DeleteStale(frontends []ruleset.Serving, superseded func(proxy.Key) bool) (int, error) {
	total := 0
	for _, ipv4 := range []bool{true, false} {
		filter := newStale(frontends, ipv4)
		if len(filter) == 0 {
			continue
		}
		flows, err := t.list(filter, ipv4)
		if err != nil {
			return total, fmt.Errorf("looking for stale UDP flows: %w", err)
		}
		for i := range flows {
			if !filter.match(&flows[i]) || superseded != nil && superseded(flows[i].key) {
				continue
			}
			err := t.delete(&flows[i], ipv4)
			switch {
			case errors.Is(err, unix.ENOENT): // it has ended meanwhile
			case err != nil:
				return total, fmt.Errorf("deleting a stale UDP flow: %w", err)
			default:
				total++
			}
		}
	}
	return total, nil
}

func (t *Table) list(filter stale, ipv4 bool) ([]flow, error) {
	if len(filter) > maxWalks {
		return t.dump(proxy.Key{Protocol: proxy.UDP}, ipv4)
	}
	var out []flow
	for key := range filter {
		flows, err := t.dump(key, ipv4)
		if err != nil {
			return nil, err
		}
		out = append(out, flows...)
	}
	return out, nil
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

// match says whether a flow is stale. A flow that was not translated has its destination as the one
// who answers: it is stale if the frontend now has endpoints, since it came before them, and belongs to
// the node itself if not.
func (s stale) match(f *flow) bool {
	serving, ours := s[f.key]
	if !ours || !f.answers.Addr.IsValid() {
		return false
	}
	if _, valid := serving[f.answers]; valid {
		return false
	}
	translated := f.answers.Addr != f.key.Addr || f.answers.Port != f.key.Port
	return translated || len(serving) > 0
}
