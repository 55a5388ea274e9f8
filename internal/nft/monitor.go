package nft

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Monitor tells of changes that somebody else made to our tables.
type Monitor struct {
	conn *netlink.Conn
	// ours says whether a netlink address is one that we write from.
	ours func(portID uint32) bool
}

// notifications is NFNLGRP_NFTABLES, the multicast group in which the kernel tells what was
// committed. It does so only while somebody listens, and then for each element.
const notifications = 7

// OpenMonitor listens in the calling thread's network namespace. The caller closes the Monitor.
func OpenMonitor(ours func(portID uint32) bool) (*Monitor, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket for notifications of nftables: %w", err)
	}
	// A buffer that is too short only means more looks at the tables: see Wait.
	_ = conn.SetReadBuffer(wantReceiveBuffer)
	m := &Monitor{conn: conn, ours: ours}
	if err := m.Resume(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return m, nil
}

// Pause ends the notifications, so that the kernel need not write one for each element of a long
// transaction, and Resume starts them again.
func (m *Monitor) Pause() error {
	if err := m.conn.LeaveGroup(notifications); err != nil {
		return fmt.Errorf("leaving the notifications of nftables: %w", err)
	}
	return nil
}

// Resume undoes Pause.
func (m *Monitor) Resume() error {
	if err := m.conn.JoinGroup(notifications); err != nil {
		return fmt.Errorf("joining the notifications of nftables: %w", err)
	}
	return nil
}

// Close ends Wait.
func (m *Monitor) Close() { _ = m.conn.Close() }

// Wait returns nil when somebody else changed our tables, or may have: when notifications were lost.
// It returns an error when the Monitor is closed or broken.
func (m *Monitor) Wait() error {
	for {
		messages, err := m.conn.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			return nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, os.ErrClosed):
			return err
		case err != nil:
			return fmt.Errorf("reading the notifications of nftables: %w", err)
		}
		for i := range messages {
			if m.foreign(&messages[i]) {
				return nil
			}
		}
	}
}

// foreign says whether a notification is about our tables and not caused by us. The first attribute
// of each kind but the one for a new generation is the name of the table.
func (m *Monitor) foreign(message *netlink.Message) bool {
	kind := uint16(message.Header.Type)
	if kind>>8 != unix.NFNL_SUBSYS_NFTABLES || kind&0xff == unix.NFT_MSG_NEWGEN || m.ours(message.Header.PID) {
		return false
	}
	about := false
	if len(message.Data) >= nfgenLength {
		attributes(message.Data[nfgenLength:], func(kind uint16, value []byte) {
			about = about || kind == unix.NFTA_TABLE_NAME && textOf(value) == tableName
		})
	}
	return about
}
