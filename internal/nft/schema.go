package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// nft's numbers for data types (nftables, include/datatype.h). A concatenation is the numbers of its
// fields, six bits each.
const (
	typeInteger  = 4
	typeIPv4     = 7
	typeIPv6     = 8
	typeProtocol = 12
	typePort     = 13
	typePriority = 23 // what nft calls a classid
)

// AffinitySize is how many pairs of a client and a Service port session affinity remembers in each family.
const AffinitySize = 262144

// What golang.org/x/sys/unix lacks of linux/netfilter/nf_tables.h: the flag of an interval set whose key
// has several fields, the attribute for the end of such an element (Linux 5.6), and the expression that
// every element of a set gets (Linux 5.7).
const (
	setConcat        = 0x80 // NFT_SET_CONCAT
	setElementKeyEnd = 10   // NFTA_SET_ELEM_KEY_END
	setExpression    = 17   // NFTA_SET_EXPR
)

// affinityMap is the one map that packets fill: client . number of AffinityShares -> endpoint.
const affinityMap = "affinity"

// setSpec is a map or set of the constant layout.
type setSpec struct {
	name string
	// key and data are the fields, as nft's type numbers; no data makes it a set, and verdict a
	// verdict map.
	key, data []uint32
	verdict   bool
	// slots says that the last field of the key is a slot number: nft cannot name such a type, so
	// the set says by user data which expressions it came from.
	slots bool
	flags uint32
	size  uint32
	// counter says that each element has a counter.
	counter bool
}

// setSpecs returns the maps and sets of a family's table, in the order of ruleset.Map, with the
// affinity map last.
func (l Layout) setSpecs(f *family) []setSpec {
	address := f.addressType
	frontend := []uint32{address, typeProtocol, typePort}
	specs := make([]setSpec, ruleset.NumMaps, ruleset.NumMaps+1)
	for m := range ruleset.NumMaps {
		spec := setSpec{name: m.String(), key: frontend}
		switch m {
		case ruleset.Frontends, ruleset.CheckedFrontends, ruleset.AffinityFrontends, ruleset.InsideFrontends,
			ruleset.OutsideFrontends, ruleset.AffinityLearners:
			spec.verdict = true
		case ruleset.Endpoints, ruleset.InsideEndpoints:
			spec.key = append(frontend[:3:3], typeInteger)
			spec.data = []uint32{address, typePort}
			spec.slots = true
		case ruleset.AffinityShares:
			spec.data = []uint32{typePriority}
		case ruleset.VirtualIPs:
			spec.key = []uint32{address}
		case ruleset.LocalEndpoints:
			spec.key = []uint32{address, address}
		case ruleset.SourceRanges:
			spec.key, spec.flags = append(frontend[:3:3], address), unix.NFT_SET_INTERVAL|setConcat
		case ruleset.PodSources, ruleset.InsideSources, ruleset.ServiceRanges:
			spec.key, spec.flags = []uint32{address}, unix.NFT_SET_INTERVAL
		case ruleset.Connections:
			spec.key, spec.counter = append(frontend[:3:3], address, typePort), true
		}
		specs[m] = spec
	}
	if !l.CountConnections {
		specs = specs[:ruleset.Connections] // the last one
	}
	return append(specs, setSpec{
		name: affinityMap, key: []uint32{address, typePriority}, data: []uint32{address, typePort},
		flags: unix.NFT_SET_EVAL | unix.NFT_SET_TIMEOUT, size: AffinitySize,
	})
}

// addSet writes a map or set. id tells the sets of one transaction apart.
func (m *message) addSet(f *family, spec *setSpec, id uint32) {
	flags := spec.flags
	if spec.verdict || spec.data != nil {
		flags |= unix.NFT_SET_MAP
	}
	m.begin(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, f.proto)
	m.text(unix.NFTA_SET_TABLE, tableName)
	m.text(unix.NFTA_SET_NAME, spec.name)
	m.uint32(unix.NFTA_SET_FLAGS, flags)
	m.uint32(unix.NFTA_SET_KEY_TYPE, concatType(spec.key))
	m.uint32(unix.NFTA_SET_KEY_LEN, concatLength(spec.key))
	switch {
	case spec.verdict:
		m.uint32(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
	case spec.data != nil:
		m.uint32(unix.NFTA_SET_DATA_TYPE, concatType(spec.data))
		m.uint32(unix.NFTA_SET_DATA_LEN, concatLength(spec.data))
	}
	m.setDescription(spec)
	m.uint32(unix.NFTA_SET_ID, id)
	switch {
	case spec.slots:
		m.bytes(unix.NFTA_SET_USERDATA, slotUserData(f))
	case len(spec.data) == 1 && spec.data[0] == typePriority:
		m.bytes(unix.NFTA_SET_USERDATA, number(byteOrderOfData, hostByteOrder))
	}
	if spec.counter {
		expression := m.nest(setExpression)
		m.text(unix.NFTA_EXPR_NAME, "counter")
		m.endNest(m.nest(unix.NFTA_EXPR_DATA))
		m.endNest(expression)
	}
	m.end()
}

// setDescription writes the size of a set, and the fields of an interval set that has several.
func (m *message) setDescription(spec *setSpec) {
	const descConcat, fieldLength = 2, 1 // NFTA_SET_DESC_CONCAT, NFTA_SET_FIELD_LEN
	if spec.size == 0 && spec.flags&setConcat == 0 {
		return
	}
	desc := m.nest(unix.NFTA_SET_DESC)
	if spec.size > 0 {
		m.uint32(unix.NFTA_SET_DESC_SIZE, spec.size)
	}
	if spec.flags&setConcat != 0 {
		list := m.nest(descConcat)
		for _, field := range spec.key {
			at := m.nest(unix.NFTA_LIST_ELEM)
			m.uint32(fieldLength, fieldBytes[field])
			m.endNest(at)
		}
		m.endNest(list)
	}
	m.endNest(desc)
}

// fieldBytes is the length of a field's value, without the padding to whole words.
var fieldBytes = map[uint32]uint32{typeIPv4: 4, typeIPv6: 16, typeProtocol: 1, typePort: 2}

func concatType(fields []uint32) uint32 {
	var number uint32
	for _, field := range fields {
		number = number<<6 | field
	}
	return number
}

// concatLength is the length of a concatenation in bytes: each field fills whole 32-bit words.
func concatLength(fields []uint32) uint32 {
	var length uint32
	for _, field := range fields {
		if field == typeIPv6 {
			length += 12
		}
		length += 4
	}
	return length
}

// What the user data of a set begins with: the byte orders of its keys and data.
const (
	byteOrderOfKey, byteOrderOfData = 0, 1
	hostByteOrder                   = 1
)

// slotUserData tells nft (1.0.0 and newer) the expressions behind the key and data of an endpoint
// map, so that it prints them and loads its own print again:
//
//	typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport
//
// The format is nft's own: records of type, length and value, nested, numbers in native byte order.
// (libnftnl include/libnftnl/udata.h and the *_build_udata functions of nftables' src; the bytes were
// compared with what nft 1.0.6 writes.)
func slotUserData(f *family) []byte {
	const (
		typeofKey, typeofData            = 3, 4
		dataIsInterval                   = 6
		payload, meta, concat, numgen    = 7, 9, 13, 23
		metaL4Proto, transport, destPort = 16, 11, 2
		numgenRandom, anyModulus         = 1, 2
	)
	daddr := record(expression(payload), nested(number(0, f.protocolDescription), number(1, f.daddrField)))
	l4proto := record(expression(meta), nested(number(0, metaL4Proto)))
	dport := record(expression(payload), nested(number(0, transport), number(1, destPort)))
	slot := record(expression(numgen), nested(number(0, numgenRandom), number(1, anyModulus), number(2, 0)))

	fields := func(list ...[]byte) []byte {
		var body []byte
		for i, field := range list {
			body = append(body, tlv(byte(i), field)...)
		}
		return record(expression(concat), tlv(1, body))
	}
	return record(
		number(byteOrderOfKey, 0), number(byteOrderOfData, 0),
		tlv(typeofKey, fields(daddr, l4proto, dport, slot)),
		tlv(typeofData, fields(daddr, dport)),
		number(dataIsInterval, 0),
	)
}

func tlv(kind byte, value []byte) []byte {
	return append([]byte{kind, byte(len(value))}, value...)
}

func number(kind byte, value uint32) []byte {
	return tlv(kind, binary.NativeEndian.AppendUint32(nil, value))
}

func expression(id uint32) []byte { return number(0, id) }

func nested(records ...[]byte) []byte { return tlv(1, record(records...)) }

func record(parts ...[]byte) []byte {
	var out []byte
	for _, part := range parts {
		out = append(out, part...)
	}
	return out
}
