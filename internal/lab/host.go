package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"

	"github.com/vishvananda/netns"
)

// Host is a machine or pod of the lab: a network namespace with one address per family.
type Host struct {
	// Name is unique in the lab; `ip netns exec <name>` inside the lab finds the host by it.
	Name string
	// IPv4 and IPv6 are the host's addresses.
	IPv4, IPv6 netip.Addr

	namespace netns.NsHandle
}

// NetNS is the file descriptor of the host's network namespace. It is open until the host is
// removed; do not close it.
func (h *Host) NetNS() int { return int(h.namespace) }

// Addresses are the host's addresses, IPv4 first.
func (h *Host) Addresses() []netip.Addr { return []netip.Addr{h.IPv4, h.IPv6} }

// Do runs fn inside the host's network namespace, on a thread of its own, and returns its error.
// Sockets keep the namespace they were created in; goroutines that fn starts do not enter it.
func (h *Host) Do(fn func() error) error { return runInNamespace(h.namespace, fn) }

// Start starts the command on this host, that is with its network. The caller waits for it; it is
// killed when the lab ends.
func (h *Host) Start(cmd *exec.Cmd) error {
	if err := h.Do(cmd.Start); err != nil {
		return fmt.Errorf("starting %s on %s: %w", cmd.Path, h.Name, err)
	}
	return nil
}

// Output runs the command on this host and returns what it wrote to standard output and error.
func (h *Host) Output(ctx context.Context, name string, args ...string) (string, error) {
	var output []byte
	err := h.Do(func() (err error) {
		output, err = exec.CommandContext(ctx, name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		return string(output), fmt.Errorf("running %s on %s: %w: %s", name, h.Name, err, output)
	}
	return string(output), nil
}

// Listen listens on this host. The network is tcp, tcp4 or tcp6; the address has no host name.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	var (
		listener net.Listener
		config   net.ListenConfig
	)
	config.SetMultipathTCP(false) // plain TCP, whatever the Go version's default is
	err := h.Do(func() (err error) {
		listener, err = config.Listen(context.Background(), network, address)
		return err
	})
	return listener, err
}

// ListenPacket listens on this host. The network is udp, udp4 or udp6; the address has no host name.
func (h *Host) ListenPacket(network, address string) (net.PacketConn, error) {
	var conn net.PacketConn
	err := h.Do(func() (err error) {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, err
}

// Dial connects from this host. The address is an IP address and a port: a host name would be
// looked up outside the host.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dialing from %s: the address must be an IP address and a port: %w", h.Name, err)
	}
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// HostPort joins an address and a port.
func HostPort(address netip.Addr, port int32) string {
	return net.JoinHostPort(address.String(), strconv.Itoa(int(port)))
}
