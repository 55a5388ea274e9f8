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
// and how long connecting took. It closes by a reset, so that no port stays occupied.
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

func readAddress(fd int) (netip.Addr, error) {
	var answer [4]byte
	for {
		n, err := unix.Read(fd, answer[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return netip.Addr{}, err
		case n < len(answer):
			return netip.Addr{}, io.ErrUnexpectedEOF
		}
		return netip.AddrFrom4(answer), nil
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
