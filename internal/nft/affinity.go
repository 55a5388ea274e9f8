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
