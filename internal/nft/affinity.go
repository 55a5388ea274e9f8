package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// forgetAttempts bounds how often entries are looked up again: because one of them ran out between the
// reading and the deleting, or because a packet that found one on its way in was learned from on its way
// out, after the entry was deleted.
const forgetAttempts = 10

// Forget takes clients whose endpoint has left out of the affinity map, and says whether there were any.
// Packets fill that map, so it has to be read; only frontends with session affinity that lose an endpoint
// come here.
func (t *Tables) Forget(list []ruleset.Forget) (found bool, err error) {
	for _, f := range []*family{&ipv4, &ipv6} {
		wanted := map[ruleset.Forget]struct{}{}
		for _, forget := range list {
			if forget.IPv4 == (f == &ipv4) {
				wanted[forget] = struct{}{}
			}
		}
		if len(wanted) == 0 {
			continue
		}
		some, err := t.forgetFamily(f, wanted)
		if err != nil {
			return found, fmt.Errorf("ending session affinity of endpoints that left: %w", err)
		}
		found = found || some
	}
	return found, nil
}

func (t *Tables) forgetFamily(f *family, wanted map[ruleset.Forget]struct{}) (found bool, err error) {
	for range forgetAttempts {
		var keys [][]byte
		d := decoder{family: f}
		err = t.dump(f, affinityMap, func(e rawElement) {
			if len(e.key) < f.addressLength()+4 {
				return
			}
			entry := ruleset.Forget{IPv4: f == &ipv4, Share: binary.NativeEndian.Uint32(e.key[f.addressLength():])}
			_, whole := wanted[entry]
			entry.Endpoint = d.endpoint(e.value)
			if _, one := wanted[entry]; whole || one {
				keys = append(keys, append([]byte(nil), e.key...))
			}
		})
		if err != nil || len(keys) == 0 {
			return found, err
		}
		found = true
		if err = t.deleteAffinity(f, keys); err != nil && !errors.Is(err, unix.ENOENT) {
			return found, err
		}
	}
	return found, err
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
		shares := decoder{family: f, m: ruleset.AffinityShares}
		err := t.dump(f, ruleset.AffinityShares.String(), shares.visit)
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

func (t *Tables) deleteAffinity(f *family, keys [][]byte) error {
	t.begin()
	w := elements{message: &t.batch, family: f, kind: unix.NFT_MSG_DELSETELEM}
	for _, key := range keys {
		w.affinityKey(key)
	}
	w.finish()
	return t.flush()
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
