package nft

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// elements writes elements of one family, in as few messages as the length of an attribute allows:
// one message for each run of elements of the same map. It does not allocate.
type elements struct {
	*message
	*family
	kind  uint16 // NFT_MSG_NEWSETELEM or NFT_MSG_DELSETELEM
	flags uint16

	open    bool
	current string
	list    int
}

// maxElement bounds the encoded length of one element: an interval end of IPv6 and its start, or a
// frontend with a verdict and its chain's name.
const maxElement = 256

// write appends an element to the message for its map.
func (w *elements) write(e *ruleset.Element) {
	w.target(e.Map.String())
	if isRange(e.Map) {
		w.writeRange(e.Prefix)
		return
	}
	at := w.nest(unix.NFTA_LIST_ELEM)
	w.key(e)
	w.data(e)
	w.endNest(at)
}

// isRange says whether a set holds plain address ranges.
func isRange(m ruleset.Map) bool {
	return m == ruleset.PodSources || m == ruleset.InsideSources || m == ruleset.ServiceRanges
}

// target makes the named set the one that elements are written to.
func (w *elements) target(set string) {
	if w.open && w.current == set && len(w.buf)-w.list < maxAttribute-maxElement {
		return
	}
	w.finish()
	w.begin(w.kind, w.flags, w.proto)
	w.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	w.text(unix.NFTA_SET_ELEM_LIST_SET, set)
	w.list = w.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	w.open, w.current = true, set
}

// finish closes the last message.
func (w *elements) finish() {
	if !w.open {
		return
	}
	w.endNest(w.list)
	w.end()
	w.open = false
}

func (w *elements) key(e *ruleset.Element) {
	at := w.nest(unix.NFTA_SET_ELEM_KEY)
	switch e.Map {
	case ruleset.VirtualIPs:
		w.attribute(unix.NFTA_DATA_VALUE, w.addressLength())
		w.address(e.Key.Addr)
	case ruleset.LocalEndpoints:
		w.attribute(unix.NFTA_DATA_VALUE, 2*w.addressLength())
		w.address(e.Key.Addr)
		w.address(e.Key.Addr)
	case ruleset.Endpoints, ruleset.InsideEndpoints:
		w.attribute(unix.NFTA_DATA_VALUE, w.addressLength()+12)
		w.frontend(e.Key)
		// A slot is what numgen puts into a register: a number in native byte order.
		w.buf = binary.NativeEndian.AppendUint32(w.buf, e.Slot)
	case ruleset.Connections:
		w.attribute(unix.NFTA_DATA_VALUE, 2*w.addressLength()+12)
		w.frontend(e.Key)
		w.address(e.Endpoint.Addr)
		w.port(e.Endpoint.Port)
	case ruleset.SourceRanges:
		w.frontendAndAddress(e.Key, e.Prefix.Addr())
		w.endNest(at)
		at = w.nest(setElementKeyEnd)
		w.frontendAndAddress(e.Key, lastAddress(e.Prefix))
	default:
		w.attribute(unix.NFTA_DATA_VALUE, w.addressLength()+8)
		w.frontend(e.Key)
	}
	w.endNest(at)
}

func (w *elements) frontendAndAddress(key proxy.Key, addr netip.Addr) {
	w.attribute(unix.NFTA_DATA_VALUE, 2*w.addressLength()+8)
	w.frontend(key)
	w.address(addr)
}

func (w *elements) data(e *ruleset.Element) {
	switch {
	case e.Map == ruleset.AffinityShares:
		at := w.nest(unix.NFTA_SET_ELEM_DATA)
		w.attribute(unix.NFTA_DATA_VALUE, 4)
		// What goes into a packet's priority: a number in native byte order.
		w.buf = binary.NativeEndian.AppendUint32(w.buf, e.Chain.N)
		w.endNest(at)
	case e.Map == ruleset.Endpoints || e.Map == ruleset.InsideEndpoints:
		at := w.nest(unix.NFTA_SET_ELEM_DATA)
		w.attribute(unix.NFTA_DATA_VALUE, w.addressLength()+4)
		w.address(e.Endpoint.Addr)
		w.port(e.Endpoint.Port)
		w.endNest(at)
	case e.Chain.Kind != ruleset.NoChain:
		code := unix.NFT_GOTO
		if e.Chain.Kind == ruleset.Learn {
			code = unix.NFT_JUMP
		}
		at := w.nest(unix.NFTA_SET_ELEM_DATA)
		inner := w.nest(unix.NFTA_DATA_VERDICT)
		w.uint32(unix.NFTA_VERDICT_CODE, uint32(int32(code)))
		w.text(unix.NFTA_VERDICT_CHAIN, chainName(e.Chain))
		w.endNest(inner)
		w.endNest(at)
	}
}

func (w *elements) frontend(key proxy.Key) {
	w.address(key.Addr)
	w.buf = append(w.buf, byte(key.Protocol), 0, 0, 0)
	w.port(key.Port)
}

func (w *elements) address(addr netip.Addr) {
	if addr.Is4() {
		b := addr.As4()
		w.buf = append(w.buf, b[:]...)
		return
	}
	b := addr.As16()
	w.buf = append(w.buf, b[:]...)
}

// port fills a 32-bit word of a concatenation: the number in its first two bytes.
func (w *elements) port(port uint16) {
	w.buf = binary.BigEndian.AppendUint16(w.buf, port)
	w.buf = append(w.buf, 0, 0)
}

// writeRange writes a prefix as an interval: an element where it starts, and one, flagged as an end,
// where the next address after it lies. A range that reaches the last address has no end.
func (w *elements) writeRange(prefix netip.Prefix) {
	at := w.nest(unix.NFTA_LIST_ELEM)
	w.rangeKey(prefix.Addr())
	w.endNest(at)
	end := lastAddress(prefix).Next()
	if !end.IsValid() {
		return
	}
	at = w.nest(unix.NFTA_LIST_ELEM)
	w.uint32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	w.rangeKey(end)
	w.endNest(at)
}

func (w *elements) rangeKey(addr netip.Addr) {
	at := w.nest(unix.NFTA_SET_ELEM_KEY)
	w.attribute(unix.NFTA_DATA_VALUE, w.addressLength())
	w.address(addr)
	w.endNest(at)
}

func lastAddress(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Masked().Addr().AsSlice()
	for i := range bytes {
		host := min(8, max(0, 8*(i+1)-prefix.Bits()))
		bytes[i] |= byte(1<<host - 1)
	}
	addr, _ := netip.AddrFromSlice(bytes)
	return addr
}

// chainName is Chain.Name without building the string anew for each element.
func chainName(c ruleset.Chain) string {
	if name, ok := pickNames[c]; ok {
		return name
	}
	return c.Name()
}

var pickNames = func() map[ruleset.Chain]string {
	names := map[ruleset.Chain]string{}
	for i := range ruleset.MaxSlotsLog2 + 1 {
		for _, kind := range []ruleset.ChainKind{ruleset.Pick, ruleset.InsidePick} {
			c := ruleset.Chain{Kind: kind, N: 1 << i}
			names[c] = c.Name()
		}
	}
	return names
}()
