package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// legacyProxy is what is said of a kube-proxy whose iptables program is the legacy one: its rules are not
// in nftables, where [nft.Tables.Others] looks.
const legacyProxy = "kube-proxy in mode iptables (legacy)"

// legacyFamily is where the kernel tells the legacy tables of an address family.
type legacyFamily struct {
	domain, level int
	// names is the file with the tables that this network namespace has. Asking for another would make it.
	names string
}

var legacyFamilies = []legacyFamily{
	{unix.AF_INET, unix.IPPROTO_IP, "/proc/thread-self/net/ip_tables_names"},
	{unix.AF_INET6, unix.IPPROTO_IPV6, "/proc/thread-self/net/ip6_tables_names"},
}

// hasLegacyProxy says whether this network namespace has the chains of kube-proxy in legacy iptables.
func hasLegacyProxy() (bool, error) {
	var errs []error
	for _, f := range legacyFamilies {
		has, err := f.hasChain("nat", "KUBE-SERVICES")
		if has {
			return true, nil
		}
		errs = append(errs, err)
	}
	return false, errors.Join(errs...)
}

func (f *legacyFamily) hasChain(table, chain string) (bool, error) {
	names, err := os.ReadFile(f.names)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // the kernel has no legacy iptables
	}
	if err != nil {
		return false, fmt.Errorf("reading the names of the iptables tables: %w", err)
	}
	if !slices.Contains(strings.Fields(string(names)), table) {
		return false, nil
	}
	rules, err := f.read(table)
	// A chain begins with a target ERROR, 30 bytes of name and revision, that has the chain's name.
	begin := append(make([]byte, 0, 64), "ERROR"...)
	begin = append(append(begin[:30], chain...), 0)
	return err == nil && bytes.Contains(rules, begin), err
}

// read returns the rules of a table as the kernel holds them (linux/netfilter_ipv4/ip_tables.h).
func (f *legacyFamily) read(table string) ([]byte, error) {
	const (
		getInfo, getEntries = 64, 65 // IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES; IPv6 has the same
		infoLength, sizeAt  = 84, 80 // struct ipt_getinfo, and where it tells the size of the rules
		entriesAt           = 40     // struct ipt_get_entries before the rules: the name, their size
		tries               = 5
	)
	fd, err := unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a socket for iptables: %w", err)
	}
	defer unix.Close(fd)
	for range tries {
		info := make([]byte, infoLength)
		copy(info, table)
		if err := getsockopt(fd, f.level, getInfo, info); err != nil {
			return nil, fmt.Errorf("asking for iptables table %s: %w", table, err)
		}
		size := binary.NativeEndian.Uint32(info[sizeAt:])
		rules := make([]byte, entriesAt+int(size))
		copy(rules, table)
		binary.NativeEndian.PutUint32(rules[32:], size)
		err = getsockopt(fd, f.level, getEntries, rules)
		if err == nil {
			return rules[entriesAt:], nil
		}
		if !errors.Is(err, unix.EAGAIN) { // somebody changed the table in between
			break
		}
	}
	return nil, fmt.Errorf("reading iptables table %s: %w", table, err)
}

// getsockopt is the system call: unlike the functions of package unix, it gives the kernel what is in buffer.
func getsockopt(fd, level, option int, buffer []byte) error {
	length := uint32(len(buffer))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&buffer[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
