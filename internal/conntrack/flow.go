package conntrack

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// flow is a connection in the table.
type flow struct {
	// key is where the client sent to, and answers who answers it.
	key     proxy.Key
	answers proxy.Endpoint
	// tuple, id and zone are what the kernel calls it by, as it wrote them.
	tuple, id, zone []byte
}

// Numbers of linux/netfilter/nfnetlink_conntrack.h; the filter's flags are in the kernel's
// net/netfilter/nf_internals.h.
const (
	getFlow, deleteFlow = 1, 2 // IPCTNL_MSG_CT_*

	tupleOriginal, tupleReply, flowID, flowZone, flowFilter = 1, 2, 12, 18, 25 // CTA_*
	tupleIP, tupleProto                                     = 1, 2             // CTA_TUPLE_*
	sourceIPv4, destIPv4, sourceIPv6, destIPv6              = 1, 2, 3, 4       // CTA_IP_*
	protoNumber, protoSource, protoDest                     = 1, 2, 3          // CTA_PROTO_*

	filterOriginal                            = 1 // CTA_FILTER_ORIG_FLAGS
	filterAddress, filterProtocol, filterPort = 1 << 1, 1 << 3, 1 << 5
)

// request is a message about the connections of a family, with these attributes.
func request(kind uint16, flags netlink.HeaderFlags, ipv4 bool, attributes []byte) netlink.Message {
	family := byte(unix.AF_INET6)
	if ipv4 {
		family = unix.AF_INET
	}
	return netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | kind),
			Flags: netlink.Request | flags,
		},
		Data: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attributes...),
	}
}

// dump returns the flows to a frontend, or without an address and port those of its protocol, and
// maybe more.
func (t *Table) dump(key proxy.Key, ipv4 bool) ([]flow, error) {
	attributes, err := encodeFilter(key)
	if err != nil {
		return nil, err
	}
	messages, err := t.conn.Execute(request(getFlow, netlink.Dump, ipv4, attributes))
	if err != nil {
		return nil, fmt.Errorf("reading the connection table: %w", err)
	}
	flows := make([]flow, 0, len(messages))
	for i := range messages {
		f, err := decodeFlow(messages[i].Data)
		if err != nil {
			return nil, fmt.Errorf("reading a connection: %w", err)
		}
		flows = append(flows, f)
	}
	return flows, nil
}

// encodeFilter asks for the flows to a frontend; over IPv6 to its port on any address, since Linux 6.18
// and older leave out just those flows whose IPv6 address is the one asked for.
func encodeFilter(key proxy.Key) ([]byte, error) {
	flags := uint32(filterProtocol)
	if key.Port != 0 {
		flags |= filterPort
	}
	if key.Addr.Is4() {
		flags |= filterAddress
	}
	encoder := netlink.NewAttributeEncoder()
	encoder.ByteOrder = binary.BigEndian
	encoder.Nested(tupleOriginal, func(tuple *netlink.AttributeEncoder) error {
		tuple.Nested(tupleIP, func(ip *netlink.AttributeEncoder) error {
			if key.Addr.Is4() {
				ip.Bytes(destIPv4, key.Addr.AsSlice())
			}
			return nil
		})
		tuple.Nested(tupleProto, func(proto *netlink.AttributeEncoder) error {
			proto.Uint8(protoNumber, uint8(key.Protocol))
			proto.Uint16(protoDest, key.Port)
			return nil
		})
		return nil
	})
	encoder.Nested(flowFilter, func(filter *netlink.AttributeEncoder) error {
		filter.ByteOrder = binary.NativeEndian
		filter.Uint32(filterOriginal, flags)
		return nil
	})
	return encoder.Encode()
}

func decodeFlow(data []byte) (flow, error) {
	const header = 4 // struct nfgenmsg
	var f flow
	if len(data) < header {
		return f, fmt.Errorf("%d bytes are too short", len(data))
	}
	decoder, err := netlink.NewAttributeDecoder(data[header:])
	if err != nil {
		return f, err
	}
	decoder.ByteOrder = binary.BigEndian
	for decoder.Next() {
		switch decoder.Type() {
		case tupleOriginal:
			f.tuple = decoder.Bytes()
			decoder.Nested(func(d *netlink.AttributeDecoder) error {
				t := decodeTuple(d)
				f.key = proxy.Key{Addr: t.to.Addr, Port: t.to.Port, Protocol: t.protocol}
				return d.Err()
			})
		case tupleReply:
			decoder.Nested(func(d *netlink.AttributeDecoder) error {
				f.answers = decodeTuple(d).from
				return d.Err()
			})
		case flowID:
			f.id = decoder.Bytes()
		case flowZone:
			f.zone = decoder.Bytes()
		}
	}
	return f, decoder.Err()
}

// tuple is one direction of a connection.
type tuple struct {
	from, to proxy.Endpoint
	protocol proxy.Protocol
}

func decodeTuple(d *netlink.AttributeDecoder) (t tuple) {
	for d.Next() {
		switch d.Type() {
		case tupleIP:
			d.Nested(func(ip *netlink.AttributeDecoder) error {
				for ip.Next() {
					addr, _ := netip.AddrFromSlice(ip.Bytes())
					switch ip.Type() {
					case sourceIPv4, sourceIPv6:
						t.from.Addr = addr
					case destIPv4, destIPv6:
						t.to.Addr = addr
					}
				}
				return ip.Err()
			})
		case tupleProto:
			d.Nested(func(proto *netlink.AttributeDecoder) error {
				for proto.Next() {
					switch proto.Type() {
					case protoNumber:
						t.protocol = proxy.Protocol(proto.Uint8())
					case protoSource:
						t.from.Port = proto.Uint16()
					case protoDest:
						t.to.Port = proto.Uint16()
					}
				}
				return proto.Err()
			})
		}
	}
	return t
}

// delete ends a flow, unless another one has taken its place.
func (t *Table) delete(f *flow, ipv4 bool) error {
	encoder := netlink.NewAttributeEncoder()
	encoder.Bytes(tupleOriginal|netlink.Nested, f.tuple)
	encoder.Bytes(flowID, f.id)
	if f.zone != nil {
		encoder.Bytes(flowZone, f.zone)
	}
	attributes, err := encoder.Encode()
	if err != nil {
		return err
	}
	_, err = t.conn.Execute(request(deleteFlow, netlink.Acknowledge, ipv4, attributes))
	return err
}
