package node

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/vishvananda/netlink"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

func TestOccupiedPorts(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	connected, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()
	l := listeners{log: logr.Discard()}
	port := func(addr net.Addr) uint16 { return netip.MustParseAddrPort(addr.String()).Port() }
	for _, test := range []struct {
		name     string
		addr     string
		port     uint16
		protocol proxy.Protocol
		want     bool
	}{
		{"where a process listens", "127.0.0.1", port(tcp.Addr()), proxy.TCP, true},
		{"another address", "192.0.2.1", port(tcp.Addr()), proxy.TCP, false},
		{"another protocol", "127.0.0.1", port(tcp.Addr()), proxy.UDP, false},
		{"a socket for every address", "192.0.2.1", port(udp.LocalAddr()), proxy.UDP, true},
		{"a socket for every address, IPv6", "2001:db8::1", port(udp.LocalAddr()), proxy.UDP, true},
		{"a client's socket", "127.0.0.1", port(connected.LocalAddr()), proxy.UDP, false},
	} {
		key := proxy.Key{Addr: netip.MustParseAddr(test.addr), Port: test.port, Protocol: test.protocol}
		if got := l.occupied(key); got != test.want {
			t.Errorf("%s: occupied %v, want %v", test.name, got, test.want)
		}
	}
}

func TestNodePortsLeftToListenersAreLookedAtAgainOnce(t *testing.T) {
	name := types.NamespacedName{Namespace: "default", Name: "web"}
	marked := make(chan []types.NamespacedName, 10)
	l := listeners{
		log: logr.Discard(), left: map[types.NamespacedName][]proxy.Key{},
		mark: func(names ...types.NamespacedName) { marked <- names },
	}
	key := proxy.Key{Addr: netip.MustParseAddr("192.168.0.1"), Port: 30080, Protocol: proxy.TCP}
	for _, step := range []struct{ keys, change int }{{1, 1}, {1, 0}, {0, -1}, {1, 1}} {
		if got := l.leave(name, slices.Repeat([]proxy.Key{key}, step.keys)); got != step.change {
			t.Errorf("leaving %d changes the number by %d, want %d", step.keys, got, step.change)
		}
	}
	l.recheck()
	if got := <-marked; !slices.Equal(got, []types.NamespacedName{name}) {
		t.Errorf("looked at again: %v", got)
	}
}

func TestAddressesAreWatchedAgain(t *testing.T) {
	var subscriptions int
	subscribe := func(updates chan<- netlink.AddrUpdate, _ <-chan struct{}) error {
		subscriptions++
		go func() {
			updates <- netlink.AddrUpdate{}
			close(updates) // as after a lost message
		}()
		return nil
	}
	changes := make(chan struct{})
	go watchAddresses(t.Context(), logr.Discard(), subscribe, func() { changes <- struct{}{} })
	for i := range 4 { // at the start, an update, and both again
		select {
		case <-changes:
		case <-time.After(30 * time.Second):
			t.Fatalf("%d changes were told, want 4", i)
		}
	}
	if subscriptions != 2 {
		t.Errorf("%d subscriptions, want 2", subscriptions)
	}
}
