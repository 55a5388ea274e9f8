package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ask makes one TCP connection from the calling thread's host and returns the endpoint that answered
// and how long connecting took. It closes by a reset, so that no port stays occupied. That waits for
// the server's end of stream: connection tracking would take a packet behind the reset for a reason to
// keep the entry, and send the next connection from the same port where this one went.
func ask(to netip.AddrPort, timeout time.Duration) (endpoint netip.Addr, took time.Duration, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return endpoint, 0, fmt.Errorf("opening a socket: %w", err)
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(timeout.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
	if err != nil {
		return endpoint, 0, fmt.Errorf("preparing a socket: %w", err)
	}
	started := time.Now()
	if err := connect(fd, to, timeout); err != nil {
		return endpoint, 0, fmt.Errorf("connecting to %s: %w", to, err)
	}
	took = time.Since(started)
	endpoint, err = readAddress(fd)
	if err != nil {
		return endpoint, took, fmt.Errorf("reading the answer of %s: %w", to, err)
	}
	return endpoint, took, nil
}

// connect goes on after a signal, which interrupts a connect that has a timeout.
func connect(fd int, to netip.AddrPort, timeout time.Duration) error {
	err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if !errors.Is(err, unix.EINTR) {
		return err
	}
	waiting := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(waiting, int(timeout.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return unix.ETIMEDOUT
		}
		number, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && number != 0 {
			err = unix.Errno(number)
		}
		return err
	}
}

// readAddress reads an address and then the end of the stream.
func readAddress(fd int) (netip.Addr, error) {
	var answer [8]byte
	length := 0
	for {
		n, err := unix.Read(fd, answer[length:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return netip.Addr{}, err
		case n > 0:
			length += n
			continue
		}
		if length != 4 {
			return netip.Addr{}, io.ErrUnexpectedEOF
		}
		return netip.AddrFrom4([4]byte(answer[:4])), nil
	}
}

// wrongEndpoint is an answer that no proxy may give.
type wrongEndpoint struct {
	service  int
	endpoint netip.Addr
}

func (e *wrongEndpoint) Error() string {
	return fmt.Sprintf("%s was answered by %s, which is not an endpoint of it", virtualIP(e.service), e.endpoint)
}

// askService asks Service i, whose endpoints are given, and checks who answers.
func askService(i int, endpoints []netip.Addr, timeout time.Duration) (netip.Addr, time.Duration, error) {
	endpoint, took, err := ask(virtualIP(i), timeout)
	if err == nil && !slices.Contains(endpoints, endpoint) {
		err = &wrongEndpoint{i, endpoint}
	}
	return endpoint, took, err
}

// fatal says whether the error is one that no waiting mends.
func fatal(err error) bool {
	var wrong *wrongEndpoint
	return errors.As(err, &wrong)
}
