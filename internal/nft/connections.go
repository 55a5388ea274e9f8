package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// Count is how many connections to a frontend an endpoint has had.
type Count struct {
	Key         proxy.Key
	Endpoint    proxy.Endpoint
	Connections uint64
}

// Connections reads how many connections the endpoints have had since they are in the tables.
func (t *Tables) Connections() ([]Count, error) {
	var out []Count
	for _, f := range []*family{&ipv4, &ipv6} {
		d, first := decoder{family: f}, len(out)
		err := t.dumpWhole(f, ruleset.Connections.String(), func() func(rawElement) {
			out = out[:first]
			return func(e rawElement) { out = append(out, d.count(e)) }
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Left returns how many connections the endpoints had had that the last Commit took away.
func (t *Tables) Left() []Count { return t.left }

// maxEchoed is how many elements the kernel is asked to tell of while it deletes them: it writes a
// message for each, and all of them wait in the receive buffer.
const maxEchoed = 2000

// beginLeft prepares for the counters that a transaction deletes, and returns the flags of the messages
// that delete them. The kernel tells what they say at the moment it takes them away; of more than the
// buffer holds they are read before, which misses the connections in between.
func (t *Tables) beginLeft(change *ruleset.Change) (flags uint16, err error) {
	if !t.layout.CountConnections {
		return 0, nil
	}
	deleted := map[Count]struct{}{}
	for i := range change.Delete {
		if e := &change.Delete[i]; e.Map == ruleset.Connections {
			deleted[Count{Key: e.Key, Endpoint: e.Endpoint}] = struct{}{}
		}
	}
	if len(deleted) <= maxEchoed {
		return unix.NLM_F_ECHO, nil
	}
	all, err := t.Connections()
	for _, c := range all {
		if _, leaves := deleted[Count{Key: c.Key, Endpoint: c.Endpoint}]; leaves {
			t.left = append(t.left, c)
		}
	}
	return 0, err
}

// noteLeft takes the counters from the kernel's message about deleted elements.
func (t *Tables) noteLeft(body []byte) {
	if len(body) < nfgenLength {
		return
	}
	d := decoder{family: familyOf(body[0] == ipv4.proto)}
	visitElements(body, func(e rawElement) { t.left = append(t.left, d.count(e)) })
}

func (d *decoder) count(e rawElement) Count {
	c := Count{Key: d.frontend(e.key)}
	if at := d.addressLength() + 8; len(e.key) > at {
		c.Endpoint = d.endpoint(e.key[at:])
	}
	attributes(e.expression, func(kind uint16, data []byte) {
		if kind != unix.NFTA_EXPR_DATA {
			return
		}
		attributes(data, func(kind uint16, value []byte) {
			if kind == unix.NFTA_COUNTER_PACKETS && len(value) == 8 {
				c.Connections = binary.BigEndian.Uint64(value)
			}
		})
	})
	return c
}
