package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// socket is a netlink socket to the nftables of the network namespace it was opened in.
type socket struct {
	fd int
	// sendLimit is the length of the longest batch the kernel takes, in bytes.
	sendLimit int
	// portID is the address the kernel gave the socket.
	portID  uint32
	receive []byte
}

const (
	// wantSendBuffer holds a batch of about two million elements. The kernel charges memory for what
	// is sent, not for the limit.
	wantSendBuffer    = 256 << 20
	wantReceiveBuffer = 16 << 20
	// receiveLength is the length of one read; the kernel fills dumps up to 32 KiB if it can.
	receiveLength = 64 << 10
	// sendOverhead is what the kernel keeps of the send buffer for itself, generously.
	sendOverhead = 4 << 10
)

func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket for nftables: %w", err)
	}
	s := &socket{fd: fd, receive: make([]byte, receiveLength)}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		s.close()
		return nil, fmt.Errorf("binding a netlink socket for nftables: %w", err)
	}
	setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, wantSendBuffer)
	setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, wantReceiveBuffer)
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("reading the length of the send buffer: %w", err)
	}
	s.sendLimit = got - sendOverhead
	if address, err := unix.Getsockname(fd); err == nil {
		if bound, ok := address.(*unix.SockaddrNetlink); ok {
			s.portID = bound.Pid
		}
	}
	return s, nil
}

// setBuffer raises a buffer past the system's limit, which takes CAP_NET_ADMIN in the initial user
// namespace, or else up to the limit.
func setBuffer(fd, forced, plain, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, forced, size) != nil {
		// A smaller buffer only means smaller transactions, which sendLimit says.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// send hands messages to the kernel, which works them off before send returns.
func (s *socket) send(messages []byte) error {
	for {
		err := unix.Sendto(s.fd, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("sending %d bytes to nftables: %w", len(messages), err)
		}
	}
}

// answers calls visit for each message the kernel has queued, without waiting for more.
func (s *socket) answers(visit func(kind uint16, seq uint32, body []byte)) error {
	for {
		n, _, err := unix.Recvfrom(s.fd, s.receive, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("reading the answer of nftables: %w", err)
		}
		visitMessages(s.receive[:n], visit)
	}
}

func visitMessages(data []byte, visit func(kind uint16, seq uint32, body []byte)) {
	for len(data) >= headerLength {
		length := int(binary.NativeEndian.Uint32(data))
		if length < headerLength || length > len(data) {
			return
		}
		visit(binary.NativeEndian.Uint16(data[4:]), binary.NativeEndian.Uint32(data[8:]), data[headerLength:length])
		data = data[min(len(data), (length+3)&^3):]
	}
}

// errorNumber reads the error of an NLMSG_ERROR or NLMSG_DONE message: nil for an acknowledgement.
func errorNumber(body []byte) error {
	if len(body) < 4 {
		return nil
	}
	if number := int32(binary.NativeEndian.Uint32(body)); number != 0 {
		return os.NewSyscallError("netlink", unix.Errno(-number))
	}
	return nil
}
