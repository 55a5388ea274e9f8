package conntrack

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

func TestMain(m *testing.M) { lab.Main(m) }

// openTable gives the test a network namespace of its own, which lives as long as its thread.
func openTable(t testing.TB) *Table {
	t.Helper()
	lab.Require(t)
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	table, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table
}

// addFlow adds a connection of a client to the table that an endpoint answers.
func addFlow(t testing.TB, handle *netlink.Handle, protocol proxy.Protocol, client int, to netip.AddrPort, answers netip.AddrPort) {
	t.Helper()
	from := make(net.IP, 4)
	binary.BigEndian.PutUint32(from, 10<<24|uint32(client>>14))
	port := uint16(1024 + client%(1<<14))
	family := netlink.InetFamily(unix.AF_INET)
	if to.Addr().Is6() {
		family, from = unix.AF_INET6, append(net.ParseIP("fd00::")[:12], from...)
	}
	flow := &netlink.ConntrackFlow{
		FamilyType: uint8(family), TimeOut: 600,
		Forward: netlink.IPTuple{Protocol: uint8(protocol), SrcIP: from, SrcPort: port, DstIP: to.Addr().AsSlice(), DstPort: to.Port()},
		Reverse: netlink.IPTuple{Protocol: uint8(protocol), SrcIP: answers.Addr().AsSlice(), SrcPort: answers.Port(), DstIP: from, DstPort: port},
	}
	if protocol == proxy.TCP {
		flow.ProtoInfo = &netlink.ProtoInfoTCP{State: 3}
	}
	if err := handle.ConntrackCreate(netlink.ConntrackTable, family, flow); err != nil {
		t.Fatalf("adding a flow to %s: %v", to, err)
	}
}

func newHandle(t testing.TB) *netlink.Handle {
	t.Helper()
	handle, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(handle.Close)
	return handle
}

// TestOnlyStaleFlowsAreDeleted looks for the flows of a few frontends, and for those of many.
func TestOnlyStaleFlowsAreDeleted(t *testing.T) {
	for _, family := range []struct{ vip, other, gone, serving string }{
		{"10.96.0.10", "10.96.0.11", "10.244.0.1", "10.244.0.2"},
		{"fd00:10:96::10", "fd00:10:96::11", "fd00:10:244::1", "fd00:10:244::2"},
	} {
		for _, more := range []int{0, maxWalks} {
			t.Run(fmt.Sprintf("%s and %d more", family.vip, more), func(t *testing.T) {
				table := openTable(t)
				handle := newHandle(t)
				at := func(addr string, port uint16) netip.AddrPort {
					return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
				}
				add := func(protocol proxy.Protocol, client int, to, answers netip.AddrPort) {
					addFlow(t, handle, protocol, client, to, answers)
				}
				vip := at(family.vip, 53)
				add(proxy.UDP, 1, vip, at(family.gone, 5353)) // stale
				add(proxy.UDP, 2, vip, at(family.gone, 5353)) // stale
				add(proxy.UDP, 3, vip, at(family.serving, 5353))
				add(proxy.UDP, 4, at(family.vip, 54), at(family.gone, 5353))
				add(proxy.UDP, 5, at(family.other, 53), at(family.gone, 5353))
				add(proxy.TCP, 6, vip, at(family.gone, 5353))
				serving := []ruleset.Serving{{
					Key:       proxy.Key{Addr: vip.Addr(), Port: 53, Protocol: proxy.UDP},
					Endpoints: []proxy.Endpoint{{Addr: netip.MustParseAddr(family.serving), Port: 5353}},
				}}
				for i := range more {
					serving = append(serving, ruleset.Serving{Key: proxy.Key{Addr: vip.Addr(), Port: uint16(1000 + i), Protocol: proxy.UDP}})
				}
				changed := func(key proxy.Key) bool { return key.Port == 53 }
				if got, err := table.DeleteStale(serving, changed); err != nil || got != 0 {
					t.Errorf("deleted %d flows of a frontend that has changed again (%v)", got, err)
				}
				for _, want := range []int{2, 0} {
					if got, err := table.DeleteStale(serving, nil); err != nil || got != want {
						t.Errorf("deleted %d flows (%v), want %d", got, err, want)
					}
				}
				left, err := handle.ConntrackTableList(netlink.ConntrackTable, netlink.InetFamily(map[bool]int{true: unix.AF_INET, false: unix.AF_INET6}[vip.Addr().Is4()]))
				if err != nil || len(left) != 4 {
					t.Errorf("%d flows are left (%v), want 4: %v", len(left), err, left)
				}
			})
		}
	}
}

// none is a filter that matches no flow.
type none struct{}

func (none) MatchConntrackFlow(*netlink.ConntrackFlow) bool { return false }

// BenchmarkDeleteStale ends the one stale flow of a frontend in a table of 200,000 UDP flows, beside
// reading all of it.
func BenchmarkDeleteStale(b *testing.B) {
	table := openTable(b)
	handle := newHandle(b)
	to := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 53)
	}
	endpoint := netip.MustParseAddrPort("10.244.0.1:5353")
	for i := range 200_000 {
		addFlow(b, handle, proxy.UDP, i, to(i%10_000), endpoint)
	}
	stale := netip.MustParseAddrPort("10.97.0.1:53")
	for _, n := range []int{1, 4, maxWalks, maxWalks + 1} {
		b.Run(fmt.Sprintf("frontends=%d", n), func(b *testing.B) {
			var serving []ruleset.Serving
			for i := range n {
				serving = append(serving, ruleset.Serving{Key: proxy.Key{Addr: stale.Addr(), Port: uint16(53 + i), Protocol: proxy.UDP}})
			}
			for b.Loop() {
				b.StopTimer()
				addFlow(b, handle, proxy.UDP, 300_000, stale, endpoint)
				b.StartTimer()
				if n, err := table.DeleteStale(serving, nil); err != nil || n != 1 {
					b.Fatal(n, err)
				}
			}
		})
	}
	b.Run("whole table", func(b *testing.B) {
		for b.Loop() {
			if _, err := handle.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, none{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
