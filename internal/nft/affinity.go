package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// forgetBatch is how many clients one transaction takes out of the affinity map: few enough that others wait
// for less than a millisecond.
const forgetBatch = 256

// Stranded are clients that session affinity binds to one endpoint that no longer serves them.
type Stranded struct {
	ruleset.Forget
	// keys are those of the clients in the affinity map, at most forgetBatch.
	keys [][]byte
}

// Stranded reads the affinity map, which packets fill, and returns the clients of endpoints that serves denies.
// It is asked once for each endpoint of a share.
func (t *Tables) Stranded(serves func(ruleset.Forget) bool) ([]Stranded, error) {
	var out []Stranded
	for _, f := range []*family{&ipv4, &ipv6} {
		// open is the place in out where an endpoint's next client goes, -1 for an endpoint that serves.
		open := map[ruleset.Forget]int{}
		d := decoder{family: f}
		err := t.dump(f, affinityMap, func(e rawElement) {
			n := f.addressLength()
			if len(e.key) != n+4 {
				return
			}
			of := ruleset.Forget{IPv4: f == &ipv4, Share: binary.NativeEndian.Uint32(e.key[n:]), Endpoint: d.endpoint(e.value)}
			at, known := open[of]
			if !known && serves(of) {
				at = -1
				open[of] = at
			}
			if at < 0 {
				return
			}
			if !known || len(out[at].keys) == forgetBatch {
				at = len(out)
				open[of] = at
				out = append(out, Stranded{Forget: of})
			}
			out[at].keys = append(out[at].keys, bytes.Clone(e.key))
		})
		if err != nil && !errors.Is(err, unix.ENOENT) { // without tables nobody is remembered
			return nil, fmt.Errorf("reading what session affinity remembers: %w", err)
		}
	}
	return out, nil
}

// Release takes stranded clients out of the affinity map. Each is a message of its own, so that the kernel
// tells which of them have run out since they were read: one of those would undo the whole transaction.
func (t *Tables) Release(clients Stranded) error {
	f := familyOf(clients.IPv4)
	for keys := clients.keys; len(keys) > 0; {
		t.begin()
		first := t.batch.seq + 1
		w := elements{message: &t.batch, family: f, kind: unix.NFT_MSG_DELSETELEM}
		for _, key := range keys {
			w.affinityKey(key)
			w.finish()
		}
		rest, at := make([][]byte, 0, len(keys)), 0
		var failure error
		refused, err := t.transact(func(seq uint32, err error) {
			i := int(seq - first)
			if !errors.Is(err, unix.ENOENT) || i < at || i >= len(keys) {
				failure = errors.Join(failure, err)
				return
			}
			rest = append(rest, keys[at:i]...)
			at = i + 1
		})
		if err = errors.Join(err, failure); err != nil {
			return fmt.Errorf("ending session affinity of endpoints that left: %w", err)
		}
		if refused == 0 {
			return nil
		}
		keys = append(rest, keys[at:]...)
	}
	return nil
}

// Remembered looks up what session affinity remembers of a client that comes by the frontends with this
// number in AffinityShares.
func (t *Tables) Remembered(client netip.Addr, share uint32) (entry ruleset.Remembered, found bool, err error) {
	f := familyOf(client.Is4())
	t.batch.reset()
	w := elements{message: &t.batch, family: f, kind: unix.NFT_MSG_GETSETELEM, flags: unix.NLM_F_ACK}
	w.affinityKey(binary.NativeEndian.AppendUint32(client.AsSlice(), share))
	w.finish()
	d := decoder{family: f}
	err = t.request(func(body []byte) {
		visitElements(body, func(e rawElement) {
			found = true
			entry = ruleset.Remembered{Client: client, Share: share, Endpoint: d.endpoint(e.value), Seconds: uint32(e.expires / time.Second)}
		})
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return entry, false, fmt.Errorf("looking up %s in session affinity: %w", client, err)
	}
	return entry, found, nil
}

// Sessions reads what session affinity remembers in our tables, whatever their layout; nothing where that
// layout keeps it in another form.
func (t *Tables) Sessions() (ruleset.Sessions, error) {
	var out ruleset.Sessions
	for _, f := range []*family{&ipv4, &ipv6} {
		var shares decoder
		err := t.dumpWhole(f, ruleset.AffinityShares.String(), func() func(rawElement) {
			shares = decoder{family: f, m: ruleset.AffinityShares}
			return shares.visit
		})
		if err == nil {
			err = t.dump(f, affinityMap, func(e rawElement) {
				if client, ok := shares.remembered(e); ok {
					out.Clients = append(out.Clients, client)
				}
			})
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return ruleset.Sessions{}, err
		}
		out.Shares = append(out.Shares, shares.out...)
	}
	return out, nil
}

// remembered turns an element of the affinity map into a client that has some time left.
func (d *decoder) remembered(e rawElement) (client ruleset.Remembered, ok bool) {
	n := d.addressLength()
	if len(e.key) != n+4 || len(e.value) != n+4 || e.expires < time.Second {
		return client, false
	}
	client = ruleset.Remembered{
		Share: binary.NativeEndian.Uint32(e.key[n:]), Endpoint: d.endpoint(e.value), Seconds: uint32(e.expires / time.Second),
	}
	client.Client, ok = netip.AddrFromSlice(e.key[:n])
	return client, ok
}

// writeRemembered writes clients into the affinity map, as packets would.
func (t *Tables) writeRemembered(list []ruleset.Remembered) error {
	for _, f := range []*family{&ipv4, &ipv6} {
		w := elements{message: &t.batch, family: f, kind: unix.NFT_MSG_NEWSETELEM, flags: unix.NLM_F_CREATE}
		for i := range list {
			if list[i].Client.Is4() != (f == &ipv4) {
				continue
			}
			w.remembered(&list[i])
			if err := t.flushIfLong(&w); err != nil {
				return err
			}
		}
		w.finish()
	}
	return nil
}

func (w *elements) remembered(client *ruleset.Remembered) {
	w.target(affinityMap)
	at := w.nest(unix.NFTA_LIST_ELEM)
	key := w.nest(unix.NFTA_SET_ELEM_KEY)
	w.bytes(unix.NFTA_DATA_VALUE, binary.NativeEndian.AppendUint32(client.Client.AsSlice(), client.Share))
	w.endNest(key)
	data := w.nest(unix.NFTA_SET_ELEM_DATA)
	w.attribute(unix.NFTA_DATA_VALUE, w.addressLength()+4)
	w.address(client.Endpoint.Addr)
	w.port(client.Endpoint.Port)
	w.endNest(data)
	const milliseconds = 1000
	w.bytes(unix.NFTA_SET_ELEM_TIMEOUT, binary.BigEndian.AppendUint64(nil, uint64(client.Seconds)*milliseconds))
	w.endNest(at)
}

// affinityKey writes an element of the affinity map without its data.
func (w *elements) affinityKey(key []byte) {
	w.target(affinityMap)
	at := w.nest(unix.NFTA_LIST_ELEM)
	inner := w.nest(unix.NFTA_SET_ELEM_KEY)
	w.bytes(unix.NFTA_DATA_VALUE, key)
	w.endNest(inner)
	w.endNest(at)
}
