package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// maxAttribute is the size of a netlink attribute that is safe to write: its length field has 16
// bits, and what is longer wraps around without an error.
const maxAttribute = 60 << 10

// message builds a sequence of netlink messages in one buffer, in wire format: native byte order
// for headers, big endian for nftables' own numbers. Every header and attribute is aligned to four
// bytes.
type message struct {
	buf []byte
	// seq is the sequence number of the last message begun.
	seq uint32
	// start is where the last message begun starts in buf.
	start int
}

const (
	headerLength    = 16 // struct nlmsghdr
	nfgenLength     = 4  // struct nfgenmsg
	attributeHeader = 4  // struct nlattr
)

// reset empties the buffer and keeps its memory and the sequence.
func (m *message) reset() { m.buf = m.buf[:0] }

// begin starts a message of the nftables subsystem. family is NFPROTO_*.
func (m *message) begin(kind, flags uint16, family byte) {
	m.beginRaw(uint16(unix.NFNL_SUBSYS_NFTABLES)<<8|kind, flags, family, 0)
}

func (m *message) beginRaw(kind, flags uint16, family byte, resource uint16) {
	m.seq++
	m.start = len(m.buf)
	m.buf = binary.NativeEndian.AppendUint32(m.buf, 0) // length, set by end
	m.buf = binary.NativeEndian.AppendUint16(m.buf, kind)
	m.buf = binary.NativeEndian.AppendUint16(m.buf, flags|unix.NLM_F_REQUEST)
	m.buf = binary.NativeEndian.AppendUint32(m.buf, m.seq)
	m.buf = binary.NativeEndian.AppendUint32(m.buf, 0) // port id: the kernel fills it in
	m.buf = append(m.buf, family, unix.NFNETLINK_V0)
	m.buf = binary.BigEndian.AppendUint16(m.buf, resource)
}

// end closes the last message begun.
func (m *message) end() {
	binary.NativeEndian.PutUint32(m.buf[m.start:], uint32(len(m.buf)-m.start))
}

// acknowledge asks for an answer to the last message begun.
func (m *message) acknowledge() {
	flags := binary.NativeEndian.Uint16(m.buf[m.start+6:])
	binary.NativeEndian.PutUint16(m.buf[m.start+6:], flags|unix.NLM_F_ACK)
}

// nest opens an attribute that holds attributes; close it with endNest.
func (m *message) nest(kind uint16) int {
	m.buf = binary.NativeEndian.AppendUint16(m.buf, 0)
	m.buf = binary.NativeEndian.AppendUint16(m.buf, kind|unix.NLA_F_NESTED)
	return len(m.buf) - attributeHeader
}

func (m *message) endNest(at int) {
	binary.NativeEndian.PutUint16(m.buf[at:], uint16(len(m.buf)-at))
}

// attribute opens an attribute with a value of length bytes that the caller appends next.
func (m *message) attribute(kind uint16, length int) {
	m.buf = binary.NativeEndian.AppendUint16(m.buf, uint16(attributeHeader+length))
	m.buf = binary.NativeEndian.AppendUint16(m.buf, kind)
}

func (m *message) bytes(kind uint16, value []byte) {
	m.attribute(kind, len(value))
	m.buf = append(m.buf, value...)
	m.pad()
}

func (m *message) uint32(kind uint16, value uint32) {
	m.attribute(kind, 4)
	m.buf = binary.BigEndian.AppendUint32(m.buf, value)
}

// text writes a string with the zero byte that ends it.
func (m *message) text(kind uint16, value string) {
	m.attribute(kind, len(value)+1)
	m.buf = append(m.buf, value...)
	m.buf = append(m.buf, 0)
	m.pad()
}

func (m *message) pad() {
	for len(m.buf)%4 != 0 {
		m.buf = append(m.buf, 0)
	}
}

// attributes calls visit for each attribute in data; kind has no flag bits. It stops at malformed
// data, which the kernel does not send.
func attributes(data []byte, visit func(kind uint16, value []byte)) {
	for len(data) >= attributeHeader {
		length := int(binary.NativeEndian.Uint16(data))
		if length < attributeHeader || length > len(data) {
			return
		}
		kind := binary.NativeEndian.Uint16(data[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		visit(kind, data[attributeHeader:length])
		data = data[min(len(data), (length+3)&^3):]
	}
}
