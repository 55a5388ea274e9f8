package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// Read reads both tables. ok says whether they have exactly the constant layout that Replace makes; if
// not, there is nothing to build on and the rest is empty.
func (t *Tables) Read() (found ruleset.Tables, ok bool, err error) {
	for _, isIPv4 := range []bool{true, false} {
		learners, ok, err := t.checkLayout(familyOf(isIPv4))
		if err != nil || !ok {
			return ruleset.Tables{}, false, err
		}
		for _, chain := range learners {
			found.Learners = append(found.Learners, ruleset.FamilyChain{IPv4: isIPv4, Chain: chain})
		}
	}
	if found.Elements, err = t.Elements(); err != nil {
		// The layout was there a moment ago; whoever takes a set away now is found out by the caller's
		// next look.
		return ruleset.Tables{}, false, err
	}
	found.Counted = t.layout.CountConnections
	return found, true, nil
}

// Exist says whether there is a table of ours, of whatever layout.
func (t *Tables) Exist() (bool, error) {
	exist := false
	for _, f := range []*family{&ipv4, &ipv6} {
		err := t.list(f, unix.NFT_MSG_GETTABLE, func(attribute map[uint16][]byte) {
			exist = exist || textOf(attribute[unix.NFTA_TABLE_NAME]) == tableName
		})
		if err != nil {
			return false, err
		}
	}
	return exist, nil
}

// checkLayout says whether a family's table is what addTable writes, as far as its fingerprint, its chains' hooks and
// their rules tell, and which learn chains it has besides.
func (t *Tables) checkLayout(f *family) (learners []ruleset.Chain, ok bool, err error) {
	comment, err := t.layout.comment(f)
	if err != nil {
		return nil, false, err
	}
	same := false
	err = t.list(f, unix.NFT_MSG_GETTABLE, func(attribute map[uint16][]byte) {
		if textOf(attribute[unix.NFTA_TABLE_NAME]) == tableName {
			same = bytes.Equal(attribute[tableUserData], comment) && numberOf(attribute[unix.NFTA_TABLE_FLAGS])&tableDormant == 0
		}
	})
	if err != nil || !same {
		return nil, false, err
	}
	rules, hooks := map[string][][]byte{}, map[string]hook{}
	err = t.list(f, unix.NFT_MSG_GETCHAIN, func(attribute map[uint16][]byte) {
		if textOf(attribute[unix.NFTA_CHAIN_TABLE]) == tableName {
			name := textOf(attribute[unix.NFTA_CHAIN_NAME])
			rules[name], hooks[name] = nil, hookOf(attribute)
		}
	})
	if err != nil {
		return nil, false, err
	}
	err = t.list(f, unix.NFT_MSG_GETRULE, func(attribute map[uint16][]byte) {
		if textOf(attribute[unix.NFTA_RULE_TABLE]) == tableName {
			name := textOf(attribute[unix.NFTA_RULE_CHAIN])
			rules[name] = append(rules[name], bytes.Clone(attribute[unix.NFTA_RULE_EXPRESSIONS]))
		}
	})
	if err != nil {
		return nil, false, err
	}
	for _, spec := range t.layout.chainSpecs() {
		if ok, err := spec.matches(f, hooks[spec.name], rules[spec.name]); err != nil || !ok {
			return nil, false, err
		}
		delete(rules, spec.name)
	}
	for name, listed := range rules {
		chain := ruleset.ChainNamed(name)
		if chain.Kind != ruleset.Learn {
			return nil, false, nil
		}
		spec := learnSpec(chain)
		if ok, err := spec.matches(f, hooks[name], listed); err != nil || !ok {
			return nil, false, err
		}
		learners = append(learners, chain)
	}
	return learners, true, nil
}

// tableDormant is the flag of a table whose chains are not called (NFT_TABLE_F_DORMANT).
const tableDormant = 1

// hookOf returns where a chain is called and what becomes of a packet at its end; the zero hook for a chain that
// others lead to.
func hookOf(chain map[uint16][]byte) hook {
	if chain[unix.NFTA_CHAIN_HOOK] == nil {
		return hook{}
	}
	found := hook{kind: textOf(chain[unix.NFTA_CHAIN_TYPE]), drops: numberOf(chain[unix.NFTA_CHAIN_POLICY]) != accept}
	attributes(chain[unix.NFTA_CHAIN_HOOK], func(kind uint16, value []byte) {
		switch kind {
		case unix.NFTA_HOOK_HOOKNUM:
			found.number = numberOf(value)
		case unix.NFTA_HOOK_PRIORITY:
			found.priority = int32(numberOf(value))
		}
	})
	return found
}

// numberOf reads a number of 32 bits, 0 where there is none.
func numberOf(value []byte) uint32 {
	if len(value) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(value)
}

func textOf(value []byte) string { return string(bytes.TrimSuffix(value, []byte{0})) }

// list calls visit with the attributes of each table, chain or rule of a family.
func (t *Tables) list(f *family, kind uint16, visit func(attribute map[uint16][]byte)) error {
	t.batch.reset()
	t.batch.begin(kind, unix.NLM_F_DUMP, f.proto)
	t.batch.end()
	err := t.request(func(body []byte) {
		if len(body) < nfgenLength {
			return
		}
		found := map[uint16][]byte{}
		attributes(body[nfgenLength:], func(kind uint16, value []byte) { found[kind] = value })
		visit(found)
	})
	if err != nil {
		return fmt.Errorf("reading the layout of table %s: %w", tableName, err)
	}
	return nil
}

// Elements reads every element of both tables from the kernel, sorted as ruleset.State.Elements
// sorts them. Source ranges come back as the prefixes they were written as.
func (t *Tables) Elements() ([]ruleset.Element, error) {
	var out []ruleset.Element
	for _, f := range []*family{&ipv4, &ipv6} {
		for m := range ruleset.NumMaps {
			if m == ruleset.Connections && !t.layout.CountConnections {
				continue
			}
			var d decoder
			err := t.dumpWhole(f, m.String(), func() func(rawElement) {
				d = decoder{family: f, m: m}
				return d.visit
			})
			if err != nil {
				return nil, err
			}
			out = append(out, d.finish()...)
		}
	}
	slices.SortFunc(out, ruleset.Element.Compare)
	return out, nil
}

// rawElement is an element as the kernel sends it.
type rawElement struct {
	key, keyEnd, value, chain []byte
	// expression is what the element has of its own, such as a counter.
	expression []byte
	// expires is how long the element stays; 0 for ever.
	expires time.Duration
	end     bool
}

// dump calls visit for each element of a set.
func (t *Tables) dump(f *family, set string, visit func(e rawElement)) error {
	t.batch.reset()
	t.batch.begin(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, f.proto)
	t.batch.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	t.batch.text(unix.NFTA_SET_ELEM_LIST_SET, set)
	t.batch.end()
	if err := t.request(func(body []byte) { visitElements(body, visit) }); err != nil {
		return fmt.Errorf("reading set %s of table %s: %w", set, tableName, err)
	}
	return nil
}

// request sends the dump request in the batch and calls visit with the body of each answer.
func (t *Tables) request(visit func(body []byte)) error {
	if err := t.socket.send(t.batch.buf); err != nil {
		return err
	}
	var failure error
	// Reading makes the kernel fill in the next part, so there is always something until the end.
	for done := false; !done; {
		progress := false
		err := t.socket.answers(func(kind uint16, _ uint32, body []byte) {
			progress = true
			switch kind {
			case unix.NLMSG_DONE:
				done = true
			case unix.NLMSG_ERROR:
				failure, done = errorNumber(body), true
			default:
				visit(body)
			}
		})
		if err != nil {
			return err
		}
		if !progress {
			return errors.New("the kernel sent no answer")
		}
	}
	return failure
}

func visitElements(body []byte, visit func(e rawElement)) {
	if len(body) < nfgenLength {
		return
	}
	attributes(body[nfgenLength:], func(kind uint16, list []byte) {
		if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return
		}
		attributes(list, func(_ uint16, element []byte) {
			var e rawElement
			attributes(element, func(kind uint16, value []byte) {
				switch kind {
				case unix.NFTA_SET_ELEM_KEY:
					attributes(value, func(_ uint16, data []byte) { e.key = data })
				case setElementKeyEnd:
					attributes(value, func(_ uint16, data []byte) { e.keyEnd = data })
				case unix.NFTA_SET_ELEM_DATA:
					e.value, e.chain = dataOf(value)
				case unix.NFTA_SET_ELEM_EXPIRATION:
					if len(value) == 8 {
						e.expires = time.Duration(binary.BigEndian.Uint64(value)) * time.Millisecond
					}
				case unix.NFTA_SET_ELEM_EXPR:
					e.expression = value
				case unix.NFTA_SET_ELEM_FLAGS:
					e.end = len(value) >= 4 && binary.BigEndian.Uint32(value)&unix.NFT_SET_ELEM_INTERVAL_END != 0
				}
			})
			visit(e)
		})
	})
}

func dataOf(data []byte) (value, chain []byte) {
	attributes(data, func(kind uint16, content []byte) {
		switch kind {
		case unix.NFTA_DATA_VALUE:
			value = content
		case unix.NFTA_DATA_VERDICT:
			attributes(content, func(kind uint16, name []byte) {
				if kind == unix.NFTA_VERDICT_CHAIN && len(name) > 0 {
					chain = name[:len(name)-1]
				}
			})
		}
	})
	return value, chain
}

// decoder turns the elements of one set into ruleset elements. Elements that we could not have
// written are kept with an invalid key, so that a comparison shows them.
type decoder struct {
	*family
	m      ruleset.Map
	out    []ruleset.Element
	starts []netip.Addr
	ends   []netip.Addr
}

func (d *decoder) visit(raw rawElement) {
	n := d.addressLength()
	e := ruleset.Element{Map: d.m}
	switch d.m {
	case ruleset.PodSources, ruleset.InsideSources, ruleset.ServiceRanges:
		addr, _ := netip.AddrFromSlice(raw.key)
		if raw.end {
			d.ends = append(d.ends, addr)
		} else {
			d.starts = append(d.starts, addr)
		}
		return
	case ruleset.VirtualIPs, ruleset.LocalEndpoints:
		if len(raw.key) >= n {
			e.Key.Addr, _ = netip.AddrFromSlice(raw.key[:n])
		}
	default:
		e.Key = d.frontend(raw.key)
	}
	if d.m == ruleset.Endpoints || d.m == ruleset.InsideEndpoints {
		if len(raw.key) >= n+12 {
			e.Slot = binary.NativeEndian.Uint32(raw.key[n+8:])
		}
		e.Endpoint = d.endpoint(raw.value)
	}
	if d.m == ruleset.Connections && len(raw.key) >= 2*n+12 {
		e.Endpoint = d.endpoint(raw.key[n+8:])
	}
	if d.m == ruleset.SourceRanges && len(raw.key) >= 2*n+8 && len(raw.keyEnd) >= 2*n+8 {
		start, _ := netip.AddrFromSlice(raw.key[n+8 : 2*n+8])
		end, _ := netip.AddrFromSlice(raw.keyEnd[n+8 : 2*n+8])
		e.Prefix = prefixOf(start, end)
	}
	e.Chain = ruleset.ChainNamed(string(raw.chain))
	if d.m == ruleset.AffinityShares && len(raw.value) >= 4 {
		e.Chain = ruleset.Chain{Kind: ruleset.Share, N: binary.NativeEndian.Uint32(raw.value)}
	}
	d.out = append(d.out, e)
}

func (d *decoder) frontend(key []byte) proxy.Key {
	n := d.addressLength()
	if len(key) < n+8 {
		return proxy.Key{}
	}
	addr, _ := netip.AddrFromSlice(key[:n])
	return proxy.Key{Addr: addr, Protocol: proxy.Protocol(key[n]), Port: binary.BigEndian.Uint16(key[n+4:])}
}

func (d *decoder) endpoint(value []byte) proxy.Endpoint {
	n := d.addressLength()
	if len(value) < n+2 {
		return proxy.Endpoint{}
	}
	addr, _ := netip.AddrFromSlice(value[:n])
	return proxy.Endpoint{Addr: addr, Port: binary.BigEndian.Uint16(value[n:])}
}

// finish returns the elements; ranges are put together from their starts and ends.
func (d *decoder) finish() []ruleset.Element {
	slices.SortFunc(d.starts, netip.Addr.Compare)
	slices.SortFunc(d.ends, netip.Addr.Compare)
	for _, start := range d.starts {
		var end netip.Addr // the first end after start, none if the range reaches the last address
		if i := slices.IndexFunc(d.ends, func(a netip.Addr) bool { return start.Less(a) }); i >= 0 {
			end = d.ends[i]
		}
		last := end.Prev()
		if !end.IsValid() {
			last = lastAddress(netip.PrefixFrom(start, 0))
		}
		d.out = append(d.out, ruleset.Element{Map: d.m, Prefix: prefixOf(start, last)})
	}
	return d.out
}

// prefixOf returns the range of addresses from first to last, the invalid prefix if it is not one.
func prefixOf(first, last netip.Addr) netip.Prefix {
	for bits := 0; bits <= first.BitLen(); bits++ {
		prefix := netip.PrefixFrom(first, bits)
		if prefix.Masked().Addr() == first && lastAddress(prefix) == last {
			return prefix
		}
	}
	return netip.Prefix{}
}
