package nft

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// Tables are our two tables in one network namespace. It is not safe for concurrent use.
//
// After any error what the tables hold is unknown; Replace brings them back to a known state.
type Tables struct {
	layout Layout
	socket *socket
	batch  message
	// commits counts the transactions that changed something.
	commits uint32
	// left is what the endpoints had counted that the last commit took away.
	left []Count
}

// Open connects to the nftables of the calling thread's network namespace. It needs CAP_NET_ADMIN
// there. The caller closes the Tables.
func Open(layout Layout) (*Tables, error) {
	s, err := openSocket()
	if err != nil {
		return nil, err
	}
	return &Tables{layout: layout, socket: s}, nil
}

// Close frees the connection; the tables stay.
func (t *Tables) Close() { t.socket.close() }

// Replace makes the tables anew with the constant layout and the elements of change, whatever they
// held before. Packets see the old tables or the new ones. Where the socket's buffer does not take
// all of it in one transaction, which needs a user namespace without the privilege to raise it, the
// first transaction brings the layout and the rest of the elements follow.
func (t *Tables) Replace(change *ruleset.Change) error {
	return t.commit(change, func() error {
		for _, f := range []*family{&ipv4, &ipv6} {
			if err := t.batch.addTable(f, t.layout); err != nil {
				return err
			}
		}
		return nil
	})
}

// Commit writes a change. An error means that nothing of it was written, unless it was too long for
// one transaction.
func (t *Tables) Commit(change *ruleset.Change) error {
	t.left = nil
	if change.Empty() {
		return nil
	}
	return t.commit(change, func() error { return nil })
}

// Cleanup deletes the tables, and nothing else.
func (t *Tables) Cleanup() error {
	t.begin()
	for _, f := range []*family{&ipv4, &ipv6} {
		t.batch.table(f, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, nil)
		t.batch.table(f, unix.NFT_MSG_DELTABLE, 0, nil)
	}
	return t.flush()
}

// PortID is the netlink address of this connection. Notifications about what it wrote carry it.
func (t *Tables) PortID() uint32 { return t.socket.portID }

// BatchSize is the length of the last transaction in bytes.
func (t *Tables) BatchSize() int { return len(t.batch.buf) }

func (t *Tables) commit(change *ruleset.Change, prepare func() error) error {
	echo, err := t.beginLeft(change)
	if err != nil {
		return err
	}
	t.begin()
	if err := prepare(); err != nil {
		return err
	}
	for _, c := range change.AddChains {
		spec := learnSpec(c.Chain)
		t.batch.addChain(familyOf(c.IPv4), &spec)
		if err := t.batch.addRules(familyOf(c.IPv4), &spec); err != nil {
			return err
		}
	}
	if err := t.write(change.Delete, unix.NFT_MSG_DELSETELEM, echo); err != nil {
		return err
	}
	if err := t.write(change.Add, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE); err != nil {
		return err
	}
	if err := t.writeRemembered(change.Remember); err != nil {
		return err
	}
	for _, c := range change.DeleteChains {
		t.batch.deleteChain(familyOf(c.IPv4), c.Chain.Name())
	}
	return t.flush()
}

// write encodes elements. A frontend's elements go to a map each, so runs of one map are short; a
// pass for each map keeps the messages few.
func (t *Tables) write(list []ruleset.Element, kind, flags uint16) error {
	for _, f := range []*family{&ipv4, &ipv6} {
		for m := range ruleset.NumMaps {
			w := elements{message: &t.batch, family: f, kind: kind, flags: flags}
			if m != ruleset.Connections {
				w.flags &^= unix.NLM_F_ECHO
			}
			for i := range list {
				e := &list[i]
				if e.Map != m || e.IPv4() != (f == &ipv4) {
					continue
				}
				w.write(e)
				if err := t.flushIfLong(&w); err != nil {
					return err
				}
			}
			w.finish()
		}
	}
	return nil
}

// flushIfLong sends what there is where the socket would not take much more at once.
func (t *Tables) flushIfLong(w *elements) error {
	if len(t.batch.buf) < t.socket.sendLimit-2*maxAttribute {
		return nil
	}
	w.finish()
	if err := t.flush(); err != nil {
		return err
	}
	t.begin()
	return nil
}

// begin starts a transaction.
func (t *Tables) begin() {
	t.batch.reset()
	t.batch.beginRaw(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	t.batch.end()
}

// flush sends the transaction and reads what became of it.
func (t *Tables) flush() error {
	if len(t.batch.buf) <= headerLength+nfgenLength {
		return nil
	}
	var failure error
	_, err := t.transact(func(seq uint32, err error) {
		if failure == nil {
			failure = fmt.Errorf("committing to nftables: message %d of the transaction: %w", seq, err)
		}
	})
	return cmp.Or(err, failure)
}

// transact sends the transaction, calls refuse for each message that the kernel does not take, in their order, and
// returns how many these are. Of a transaction with such a message nothing is written.
func (t *Tables) transact(refuse func(seq uint32, err error)) (refused int, err error) {
	t.batch.acknowledge()
	last := t.batch.seq
	t.batch.beginRaw(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	t.batch.end()
	if err := t.socket.send(t.batch.buf); err != nil {
		return 0, err
	}
	acknowledged := false
	err = t.socket.answers(func(kind uint16, seq uint32, body []byte) {
		if kind == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELSETELEM {
			t.noteLeft(body)
		}
		if kind != unix.NLMSG_ERROR {
			return
		}
		if err := errorNumber(body); err != nil {
			refused++
			refuse(seq, err)
		}
		acknowledged = acknowledged || seq == last
	})
	switch {
	case err != nil || refused > 0:
		return refused, err
	case !acknowledged:
		return 0, errors.New("committing to nftables: the kernel sent no answer")
	}
	t.commits++
	return 0, nil
}

// ForeignGenerations is how often somebody else changed the ruleset of this network namespace, in any
// table, counted from an arbitrary start.
func (t *Tables) ForeignGenerations() (uint32, error) {
	const getGeneration = 16 // NFT_MSG_GETGEN
	var generation uint32
	t.batch.reset()
	t.batch.begin(getGeneration, unix.NLM_F_ACK, unix.AF_UNSPEC)
	t.batch.end()
	err := t.request(func(body []byte) {
		if len(body) < nfgenLength {
			return
		}
		attributes(body[nfgenLength:], func(kind uint16, value []byte) {
			if kind == unix.NFTA_GEN_ID && len(value) == 4 {
				generation = binary.BigEndian.Uint32(value)
			}
		})
	})
	if err != nil {
		return 0, fmt.Errorf("reading the generation of nftables: %w", err)
	}
	return generation - t.commits, nil
}
