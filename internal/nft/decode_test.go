package nft

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// encoded is an element message as the encoder writes it, without its headers.
func encoded(f *family, list ...ruleset.Element) []byte {
	var m message
	w := elements{message: &m, family: f, kind: unix.NFT_MSG_NEWSETELEM}
	for i := range list {
		w.write(&list[i])
	}
	w.finish()
	return m.buf[headerLength:]
}

func TestElementsSurviveEncodingAndDecoding(t *testing.T) {
	key := proxy.Key{Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Protocol: proxy.TCP}
	for _, e := range []ruleset.Element{
		{Map: ruleset.Frontends, Key: key, Chain: ruleset.Chain{Kind: ruleset.Pick, N: 16}},
		{Map: ruleset.AffinityLearners, Key: key, Chain: ruleset.Chain{Kind: ruleset.Learn, N: 30}},
		{Map: ruleset.Endpoints, Key: key, Slot: 7, Endpoint: proxy.Endpoint{Addr: netip.MustParseAddr("10.244.0.1"), Port: 8080}},
		{Map: ruleset.VirtualIPs, Key: proxy.Key{Addr: key.Addr}},
		{Map: ruleset.SourceRanges, Key: key, Prefix: netip.MustParsePrefix("192.0.2.0/25")},
		{Map: ruleset.PodSources, Prefix: netip.MustParsePrefix("10.244.0.0/16")},
		{Map: ruleset.PodSources, Prefix: netip.MustParsePrefix("0.0.0.0/0")},
		{Map: ruleset.PodSources, Prefix: netip.MustParsePrefix("128.0.0.0/1")},
	} {
		d := decoder{family: &ipv4, m: e.Map}
		visitElements(encoded(&ipv4, e), d.visit)
		if got := d.finish(); len(got) != 1 || got[0] != e {
			t.Errorf("%v became %v", e, got)
		}
	}
}

func TestLongListsAreCutIntoMessages(t *testing.T) {
	var list []ruleset.Element
	for i := range 5000 {
		list = append(list, ruleset.Element{
			Map: ruleset.Endpoints, Slot: uint32(i), Key: proxy.Key{Addr: netip.MustParseAddr("fd00::1"), Port: 80, Protocol: proxy.TCP},
			Endpoint: proxy.Endpoint{Addr: netip.MustParseAddr("fd00:10:244::1"), Port: uint16(i + 1)},
		})
	}
	var m message
	w := elements{message: &m, family: &ipv6, kind: unix.NFT_MSG_NEWSETELEM}
	for i := range list {
		w.write(&list[i])
	}
	w.finish()
	d := decoder{family: &ipv6, m: ruleset.Endpoints}
	messages := 0
	visitMessages(m.buf, func(_ uint16, _ uint32, body []byte) {
		messages++
		if len(body) > 64<<10 {
			t.Errorf("a message has %d bytes", len(body))
		}
		visitElements(body, d.visit)
	})
	if messages < 2 || len(d.out) != len(list) {
		t.Errorf("%d messages hold %d elements, want more than one and %d", messages, len(d.out), len(list))
	}
}

func TestWritingElementsDoesNotAllocate(t *testing.T) {
	e := ruleset.Element{
		Map: ruleset.Endpoints, Slot: 1, Key: proxy.Key{Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Protocol: proxy.TCP},
		Endpoint: proxy.Endpoint{Addr: netip.MustParseAddr("10.244.0.1"), Port: 8080},
	}
	m := message{buf: make([]byte, 0, 1<<20)}
	w := elements{message: &m, family: &ipv4, kind: unix.NFT_MSG_NEWSETELEM}
	if allocations := testing.AllocsPerRun(1000, func() { w.write(&e) }); allocations > 0 {
		t.Errorf("writing an element allocates %.0f times", allocations)
	}
}

// FuzzVisitElements feeds the decoder what no kernel would send: it must neither panic nor hang.
func FuzzVisitElements(f *testing.F) {
	key := proxy.Key{Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Protocol: proxy.TCP}
	f.Add(encoded(&ipv4, ruleset.Element{Map: ruleset.Frontends, Key: key, Chain: ruleset.Chain{Kind: ruleset.Pick, N: 2}}))
	f.Add(encoded(&ipv4, ruleset.Element{Map: ruleset.PodSources, Prefix: netip.MustParsePrefix("10.0.0.0/8")}))
	f.Add(bytes.Repeat([]byte{4, 0, 3, 0x80}, 8))
	f.Fuzz(func(_ *testing.T, data []byte) {
		for _, family := range []*family{&ipv4, &ipv6} {
			for m := range ruleset.NumMaps {
				d := decoder{family: family, m: m}
				visitElements(data, d.visit)
				d.finish()
			}
		}
		visitMessages(data, func(_ uint16, _ uint32, body []byte) { _ = errorNumber(body) })
	})
}
