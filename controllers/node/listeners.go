package node

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// recheckPause is how long a NodePort is left to a process of the node before it is looked at again.
const recheckPause = 5 * time.Second

// listeners keeps NodePorts from taking the traffic of the node's own processes, such as a kubelet or an
// SSH server. A NodePort that is served already stays: who listens there later came second.
type listeners struct {
	log logr.Logger
	// mark makes the Services of these names be built again.
	mark func(names ...types.NamespacedName)

	mu sync.Mutex
	// open are the sockets that wait for clients, nil if they are to be read.
	open map[proxy.Key]struct{}
	// left are the NodePorts that are left to a process, and due says that they will be looked at again.
	left map[types.NamespacedName][]proxy.Key
	due  bool
}

// forget makes the sockets be read anew when they are asked for next.
func (l *listeners) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = nil
}

// occupied says whether a process of the node waits for clients on this address and port.
func (l *listeners) occupied(key proxy.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		var err error
		if l.open, err = listOpen(); err != nil {
			l.log.Error(err, "NodePorts may take the traffic of processes of this node")
			l.open = map[proxy.Key]struct{}{}
		}
	}
	any4, any6 := key, key
	any4.Addr, any6.Addr = netip.IPv4Unspecified(), netip.IPv6Unspecified()
	_, here := l.open[key]
	_, everywhere := l.open[any6] // an IPv6 socket takes IPv4 too, unless told not to
	if !here && !everywhere && key.Addr.Is4() {
		_, everywhere = l.open[any4]
	}
	return here || everywhere
}

// leave takes note of the NodePorts of a Service that are left to processes, and says how many more these
// are than before. They are looked at again after a while.
func (l *listeners) leave(name types.NamespacedName, keys []proxy.Key) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.left[name]
	if len(keys) == 0 {
		delete(l.left, name)
		return -len(before)
	}
	l.left[name] = keys
	for _, key := range keys {
		if !slices.Contains(before, key) {
			l.log.Info("A process of this node listens on a NodePort, and keeps it; the Service is served on its other addresses",
				"service", name, "nodePort", key.String())
		}
	}
	if !l.due {
		l.due = true
		time.AfterFunc(recheckPause, l.recheck)
	}
	return len(keys) - len(before)
}

// leftOf are the NodePorts of a Service, of all for the zero name, that are left to processes, sorted.
func (l *listeners) leftOf(name types.NamespacedName) []proxy.Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []proxy.Key
	for service, keys := range l.left {
		if service == name || name == (types.NamespacedName{}) {
			out = append(out, keys...)
		}
	}
	slices.SortFunc(out, proxy.Key.Compare)
	return out
}

func (l *listeners) recheck() {
	l.mu.Lock()
	l.due = false
	var names []types.NamespacedName
	for name := range l.left {
		names = append(names, name)
	}
	l.mu.Unlock()
	l.mark(names...)
}

// leaveToListeners takes those frontends from a Service that are not served yet and on which a process of
// this node listens.
func (a *Agent) leaveToListeners(name types.NamespacedName, service *proxy.Service) (left []proxy.Key) {
	service.Frontends = slices.DeleteFunc(service.Frontends, func(f proxy.Frontend) bool {
		if _, found := slices.BinarySearchFunc(a.node.NodePortAddresses, f.Addr, netip.Addr.Compare); !found {
			return false
		}
		if state := cmp.Or(a.state, a.former); state != nil {
			if holder, served := state.Holder(f.Key); served && holder == name {
				return false
			}
		}
		if !a.listeners.occupied(f.Key) {
			return false
		}
		left = append(left, f.Key)
		return true
	})
	return left
}

// listOpen returns the addresses and ports on which processes of this network namespace wait for clients:
// TCP sockets that listen, and UDP sockets that are bound and not connected.
func listOpen() (map[proxy.Key]struct{}, error) {
	const tcpClose, tcpListen = 7, 10 // linux/tcp_states.h
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket for the node's listeners: %w", err)
	}
	defer conn.Close()
	out := map[proxy.Key]struct{}{}
	for protocol, state := range map[proxy.Protocol]uint{proxy.TCP: tcpListen, proxy.UDP: tcpClose} {
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			request := make([]byte, 56) // struct inet_diag_req_v2
			request[0], request[1] = family, byte(protocol)
			binary.NativeEndian.PutUint32(request[4:], 1<<state)
			answers, err := conn.Execute(netlink.Message{
				Header: netlink.Header{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: netlink.Request | netlink.Dump}, Data: request,
			})
			if err != nil {
				return nil, fmt.Errorf("listing the node's listeners: %w", err)
			}
			for i := range answers {
				if key, ok := decodeSocket(answers[i].Data, protocol); ok {
					out[key] = struct{}{}
				}
			}
		}
	}
	return out, nil
}

// decodeSocket reads a struct inet_diag_msg: the family, and from byte 4 on the source port and, after
// that of the peer, the source address.
func decodeSocket(data []byte, protocol proxy.Protocol) (proxy.Key, bool) {
	if len(data) < 24 {
		return proxy.Key{}, false
	}
	length := 16
	if data[0] == unix.AF_INET {
		length = 4
	}
	addr, ok := netip.AddrFromSlice(data[8 : 8+length])
	return proxy.Key{Addr: addr.Unmap(), Port: binary.BigEndian.Uint16(data[4:]), Protocol: protocol}, ok
}
