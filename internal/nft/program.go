package nft

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// program is a rule being written: its expressions for one family, and the next free register.
//
// Registers are counted in 32-bit words and given out as nft gives them out, from the first one for
// each key, so that nft recognises the concatenations.
type program struct {
	*family
	// out holds the encoded expressions, each as an element of a list of attributes.
	out  message
	err  error
	word uint32
}

// term is a part of a rule, such as a match or a verdict.
type term func(p *program)

// field is a part of a key; it loads itself into the next register.
type field func(p *program)

// take gives out the register for a value of that many words.
func (p *program) take(words int) uint32 {
	register := unix.NFT_REG32_00 + p.word
	p.word += uint32(words)
	return register
}

func (p *program) add(e expr.Any) {
	encoded, err := expr.Marshal(p.proto, e)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("encoding %T: %w", e, err)
	}
	p.out.bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, encoded)
}

// addConntrack loads a field of a connection's tuple. It is encoded here because expr.Ct (v0.3.0)
// knows no direction for the keys with a family, and writes it four bytes long where the kernel
// reads one.
func (p *program) addConntrack(key, register uint32, direction byte) {
	at := p.out.nest(unix.NFTA_LIST_ELEM)
	p.out.text(unix.NFTA_EXPR_NAME, "ct")
	data := p.out.nest(unix.NFTA_EXPR_DATA)
	p.out.uint32(unix.NFTA_CT_KEY, key)
	p.out.uint32(unix.NFTA_CT_DREG, register)
	p.out.bytes(unix.NFTA_CT_DIRECTION, []byte{direction})
	p.out.endNest(data)
	p.out.endNest(at)
}

const firstRegister = unix.NFT_REG32_00

func daddr(p *program) {
	p.add(&expr.Payload{DestRegister: p.take(p.words), Base: expr.PayloadBaseNetworkHeader, Offset: p.daddr, Len: uint32(p.addressLength())})
}

func saddr(p *program) {
	p.add(&expr.Payload{DestRegister: p.take(p.words), Base: expr.PayloadBaseNetworkHeader, Offset: p.saddr, Len: uint32(p.addressLength())})
}

func l4proto(p *program) { p.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: p.take(1)}) }

func dport(p *program) {
	p.add(&expr.Payload{DestRegister: p.take(1), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
}

// randomSlot is a number from 0 to slots-1.
func randomSlot(slots uint32) field {
	return func(p *program) {
		p.add(&expr.Numgen{Register: p.take(1), Modulus: slots, Type: unix.NFT_NG_RANDOM})
	}
}

const original, reply = 0, 1 // IP_CT_DIR_*

func originalClient(p *program)  { p.addConntrack(p.ctSource, p.take(p.words), original) }
func originalAddress(p *program) { p.addConntrack(p.ctDestination, p.take(p.words), original) }
func originalPort(p *program)    { p.addConntrack(unix.NFT_CT_PROTO_DST, p.take(1), original) }
func replyAddress(p *program)    { p.addConntrack(p.ctSource, p.take(p.words), reply) }
func replyPort(p *program)       { p.addConntrack(unix.NFT_CT_PROTO_SRC, p.take(1), reply) }

// key loads fields into registers from the first one on.
func (p *program) key(fields []field) {
	p.word = 0
	for _, load := range fields {
		load(p)
	}
}

// vmap goes where the map's element for the key leads.
func vmap(m ruleset.Map, fields ...field) term {
	return func(p *program) {
		p.key(fields)
		p.add(&expr.Lookup{SourceRegister: firstRegister, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT, SetName: m.String()})
	}
}

// in matches if the set has the key.
func in(m ruleset.Map, fields ...field) term { return member(m, false, fields) }

// notIn matches if the set does not have the key.
func notIn(m ruleset.Map, fields ...field) term { return member(m, true, fields) }

func member(m ruleset.Map, invert bool, fields []field) term {
	return func(p *program) {
		p.key(fields)
		p.add(&expr.Lookup{SourceRegister: firstRegister, SetName: m.String(), Invert: invert})
	}
}

// dnat sends the connection to the address and port the map holds for the key; without an element
// for the key, the rule does not match.
func dnat(name string, fields ...field) term {
	return func(p *program) {
		p.key(fields)
		p.add(&expr.Lookup{SourceRegister: firstRegister, IsDestRegSet: true, DestRegister: firstRegister, SetName: name})
		p.add(&expr.NAT{
			Type: expr.NATTypeDestNAT, Family: uint32(p.proto), RegAddrMin: firstRegister,
			RegProtoMin: firstRegister + uint32(p.words),
		})
	}
}

// setPriority puts the number the map has for the key into the packet's priority, where the next rule
// finds it for its own key: nft cannot print a lookup whose key is what another lookup found. The
// priority is for schedulers of the outgoing interface, which come later; see clearPriority.
func setPriority(m ruleset.Map, fields ...field) term {
	return func(p *program) {
		p.key(fields)
		p.add(&expr.Lookup{SourceRegister: firstRegister, IsDestRegSet: true, DestRegister: firstRegister, SetName: m.String()})
		p.add(&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: firstRegister})
	}
}

func priority(p *program) { p.add(&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: p.take(1)}) }

// clearPriority takes the number out of the packet's priority again before it leaves.
func clearPriority(p *program) {
	p.add(&expr.Immediate{Register: firstRegister, Data: make([]byte, 4)})
	p.add(&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: firstRegister})
}

// remember writes the endpoint of this connection for its client and what its frontend shares clients
// by, which is in the packet's priority, for that long.
func remember(timeout time.Duration) term {
	return func(p *program) {
		p.key([]field{originalClient, priority})
		data := unix.NFT_REG32_00 + p.word
		replyAddress(p)
		replyPort(p)
		p.add(&expr.Dynset{
			SrcRegKey: firstRegister, SrcRegData: data, SetName: affinityMap,
			Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: timeout,
		})
	}
}

func isProtocol(protocol proxy.Protocol) term {
	return func(p *program) {
		p.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: firstRegister})
		p.add(&expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: []byte{byte(protocol)}})
	}
}

// hasBit matches if a number the conntrack key loads has the bit.
func hasBit(key expr.CtKey, bit uint32) term {
	return func(p *program) {
		p.add(&expr.Ct{Register: firstRegister, Key: key})
		p.add(&expr.Bitwise{
			SourceRegister: firstRegister, DestRegister: firstRegister, Len: 4,
			Mask: binary.NativeEndian.AppendUint32(nil, bit), Xor: make([]byte, 4),
		})
		p.add(&expr.Cmp{Op: expr.CmpOpNeq, Register: firstRegister, Data: make([]byte, 4)})
	}
}

// statusDNAT matches connections whose destination was rewritten.
func statusDNAT(p *program) { hasBit(expr.CtKeySTATUS, 1<<5)(p) }

// stateNew matches the first packets of a connection.
func stateNew(p *program) { hasBit(expr.CtKeySTATE, expr.CtStateBitNEW)(p) }

// fromNode matches if the source is an address of this node.
func fromNode(p *program) {
	const local = 2 // RTN_LOCAL
	p.add(&expr.Fib{Register: firstRegister, FlagSADDR: true, ResultADDRTYPE: true})
	p.add(&expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: binary.NativeEndian.AppendUint32(nil, local)})
}

// fromInterface matches packets that came in by an interface of this name, or, if it ends in *, by one
// whose name begins so. In postrouting it needs Linux 5.7.
func fromInterface(pattern string) term {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, pattern)
	if prefix, wildcard := strings.CutSuffix(pattern, "*"); wildcard {
		name = []byte(prefix)
	}
	return func(p *program) {
		p.add(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: firstRegister})
		p.add(&expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: name})
	}
}

func jump(chain string) term { return verdict(expr.VerdictJump, chain) }
func goTo(chain string) term { return verdict(expr.VerdictGoto, chain) }
func drop(p *program)        { verdict(expr.VerdictDrop, "")(p) }

// giveBack goes on behind the rule that jumped here.
func giveBack(p *program) { verdict(expr.VerdictReturn, "")(p) }

func verdict(kind expr.VerdictKind, chain string) term {
	return func(p *program) { p.add(&expr.Verdict{Kind: kind, Chain: chain}) }
}

// masquerade gives the connection the address of the outgoing interface as source, with a random
// port so that two clients rarely race for the same one.
func masquerade(p *program) { p.add(&expr.Masq{FullyRandom: true}) }

func rejectReset(p *program) { p.add(&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}) }

func rejectUnreachable(p *program) {
	p.add(&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: p.unreachable})
}

// addRule appends a rule to a chain.
func (m *message) addRule(f *family, chain string, terms []term) error {
	p := &program{family: f}
	for _, t := range terms {
		t(p)
	}
	m.begin(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, f.proto)
	m.text(unix.NFTA_RULE_TABLE, tableName)
	m.text(unix.NFTA_RULE_CHAIN, chain)
	if p.err != nil {
		return fmt.Errorf("writing a rule of chain %s: %w", chain, p.err)
	}
	list := m.nest(unix.NFTA_RULE_EXPRESSIONS)
	m.buf = append(m.buf, p.out.buf...)
	m.endNest(list)
	m.end()
	return nil
}
