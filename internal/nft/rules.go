package nft

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// attributeOf names an attribute of a kind of expression.
type attributeOf struct {
	expression string
	kind       uint16
}

// registers are the attributes that the kernel may number anew: it lists register 8 as 1, 12 as 2, and so on.
var registers = map[attributeOf]bool{
	{"lookup", unix.NFTA_LOOKUP_SREG}: true, {"lookup", unix.NFTA_LOOKUP_DREG}: true,
	{"payload", unix.NFTA_PAYLOAD_DREG}: true, {"cmp", unix.NFTA_CMP_SREG}: true,
	{"meta", unix.NFTA_META_DREG}: true, {"meta", unix.NFTA_META_SREG}: true,
	{"ct", unix.NFTA_CT_DREG}: true, {"numgen", unix.NFTA_NG_DREG}: true, {"fib", unix.NFTA_FIB_DREG}: true,
	{"immediate", unix.NFTA_IMMEDIATE_DREG}: true,
	{"bitwise", unix.NFTA_BITWISE_SREG}:     true, {"bitwise", unix.NFTA_BITWISE_DREG}: true,
	{"nat", unix.NFTA_NAT_REG_ADDR_MIN}: true, {"nat", unix.NFTA_NAT_REG_PROTO_MIN}: true,
	{"dynset", unix.NFTA_DYNSET_SREG_KEY}: true, {"dynset", unix.NFTA_DYNSET_SREG_DATA}: true,
}

// inverting are the attributes that turn an expression around; the kernel lists them also where we give none.
var inverting = []attributeOf{{"lookup", unix.NFTA_LOOKUP_FLAGS}, {"dynset", unix.NFTA_DYNSET_FLAGS}}

// expressionFound is an expression of a rule, with the values of its attributes.
type expressionFound struct {
	name   string
	values map[attributeOf][]byte
}

// expressionsOf reads the expressions of a rule, as we write them or as the kernel lists them.
func expressionsOf(list []byte) []expressionFound {
	var out []expressionFound
	attributes(list, func(_ uint16, element []byte) {
		e := expressionFound{values: map[attributeOf][]byte{}}
		var data []byte
		attributes(element, func(kind uint16, value []byte) {
			switch kind {
			case unix.NFTA_EXPR_NAME:
				e.name = textOf(value)
			case unix.NFTA_EXPR_DATA:
				data = value
			}
		})
		attributes(data, func(kind uint16, value []byte) {
			at := attributeOf{e.name, kind}
			if registers[at] && len(value) == 4 {
				value = registerListed(value)
			}
			e.values[at] = plain(value)
		})
		out = append(out, e)
	})
	return out
}

func registerListed(value []byte) []byte {
	const perOld = 4 // 32-bit registers in one of the registers of 128 bits
	number := binary.BigEndian.Uint32(value)
	if number >= firstRegister && (number-firstRegister)%perOld == 0 {
		number = 1 + (number-firstRegister)/perOld
	}
	return binary.BigEndian.AppendUint32(nil, number)
}

// plain takes the flag of nested attributes out of the first levels of a value, since the kernel does not set it.
func plain(value []byte) []byte {
	out := bytes.Clone(value)
	for inner := out; len(inner) >= attributeHeader; {
		kind := binary.NativeEndian.Uint16(inner[2:])
		if kind&unix.NLA_F_NESTED == 0 {
			break
		}
		binary.NativeEndian.PutUint16(inner[2:], kind&^unix.NLA_F_NESTED)
		inner = inner[attributeHeader:]
	}
	return out
}

// sameRule reports whether a rule that the kernel lists is one that we would write. What it lists besides, such as
// the defaults of what we leave out, is not compared.
func sameRule(want, found []expressionFound) bool {
	if len(want) != len(found) {
		return false
	}
	for i := range want {
		if want[i].name != found[i].name {
			return false
		}
		for at, value := range want[i].values {
			listed, is := found[i].values[at]
			if is && !bytes.Equal(listed, value) || !is && !isZero(value) {
				return false
			}
		}
		for _, at := range inverting {
			if _, given := want[i].values[at]; !given && !isZero(found[i].values[at]) {
				return false
			}
		}
	}
	return true
}

func isZero(value []byte) bool { return len(bytes.Trim(value, "\x00")) == 0 }

// matches reports whether a chain is called where it is to be and has the rules that it is to have.
func (s *chainSpec) matches(f *family, at hook, rules [][]byte) (bool, error) {
	var want hook
	if s.hook != nil {
		want = *s.hook
	}
	if at != want || len(rules) != len(s.rules) {
		return false, nil
	}
	for i, terms := range s.rules {
		p := &program{family: f}
		for _, t := range terms {
			t(p)
		}
		if p.err != nil {
			return false, p.err
		}
		if !sameRule(expressionsOf(p.out.buf), expressionsOf(rules[i])) {
			return false, nil
		}
	}
	return true, nil
}
