package lab

import (
	"fmt"
	"os"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// settle prepares the namespaces the process was started in.
func settle() (*place, error) {
	here := &place{userNS: os.Getenv(envInside) == "1"}
	if err := os.Unsetenv(envInside); err != nil {
		return nil, fmt.Errorf("unsetting %s: %w", envInside, err)
	}
	// nft and iptables, which an ordinary user's PATH leaves out.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return nil, fmt.Errorf("setting PATH: %w", err)
	}
	// Until a fresh /proc covers it, the caller's /proc names us by the caller's numbers.
	if self, err := os.Readlink("/proc/self"); err == nil {
		here.hostPID, _ = strconv.Atoi(self) // 0 when it is not a number: nothing but a hint is lost
	}
	if err := mountPrivately(); err != nil {
		return nil, refusal(err, here.userNS)
	}
	var err error
	if here.root, err = netns.GetFromPath("/proc/self/ns/net"); err != nil {
		return nil, fmt.Errorf("opening the lab's network namespace: %w", err)
	}
	if err := setSysctls(hostSysctls); err != nil {
		return nil, err
	}
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("finding the loopback: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return nil, fmt.Errorf("setting the loopback up: %w", err)
	}
	return here, nil
}

// mountPrivately gives the lab mounts of its own: no mount leaves, /proc shows the lab's processes,
// /sys the lab's devices, and /run (the names of network namespaces, xtables.lock, our files) is
// empty and vanishes with the lab.
func mountPrivately() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("proc", "/proc", "proc", safe, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Mount("run", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	if err := os.MkdirAll(namespaceDir, 0o755); err != nil {
		return fmt.Errorf("creating %s: %w", namespaceDir, err)
	}
	// A container may hide parts of /sys, and then the kernel refuses a fresh one to a new user
	// namespace. Nothing here needs it; `ip netns exec` mounts its own where it can.
	_ = unix.Mount("sysfs", "/sys", "sysfs", safe, "")
	return nil
}
