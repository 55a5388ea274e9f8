package main

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// farm is the machine of all endpoints: every address of endpointRange is its own. It accepts, says
// which of its addresses it was reached on, and closes.
type farm struct {
	listener int // file descriptor
	running  sync.WaitGroup
}

const (
	// acceptors is how many connections are accepted at a time.
	acceptors = 4
	backlog   = 4096
)

func startFarm(host *lab.Host) (*farm, error) {
	f := &farm{}
	err := host.Do(func() error {
		if err := ownEndpoints(); err != nil {
			return err
		}
		return f.listen()
	})
	if err != nil {
		return nil, err
	}
	for range acceptors {
		f.running.Go(f.serve)
	}
	return f, nil
}

// ownEndpoints makes the addresses of all endpoints local.
func ownEndpoints() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding the loopback: %w", err)
	}
	err = netlink.RouteAdd(&netlink.Route{
		LinkIndex: loopback.Attrs().Index, Dst: ipNet(endpointRange),
		Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
	})
	if err != nil {
		return fmt.Errorf("making the endpoints local: %w", err)
	}
	return nil
}

func (f *farm) listen() error {
	var err error
	if f.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	err = unix.Bind(f.listener, &unix.SockaddrInet4{Port: endpointPort})
	if err == nil {
		err = unix.Listen(f.listener, backlog)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("listening: %w", err), unix.Close(f.listener))
	}
	return nil
}

// serve accepts until the listener is shut down. Blocking calls on raw sockets cost less than Go's
// poller, and what they cost is measured together with the packet filter.
func (f *farm) serve() {
	for {
		fd, _, err := unix.Accept4(f.listener, unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINVAL): // shut down
			return
		case err != nil: // the client has gone already
			continue
		}
		if local, err := unix.Getsockname(fd); err == nil {
			if v4, ok := local.(*unix.SockaddrInet4); ok {
				_, _ = unix.Write(fd, v4.Addr[:]) // fails only when the client has gone
			}
		}
		_ = unix.Close(fd) // nothing of it is of use any more
	}
}

func (f *farm) close() {
	_ = unix.Shutdown(f.listener, unix.SHUT_RDWR) // wakes the acceptors; fails for no listening socket
	f.running.Wait()
	_ = unix.Close(f.listener)
}
