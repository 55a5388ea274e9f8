package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// linkBound is how long a link may take to come up.
const linkBound = 5 * time.Second

// hostSysctls make a host's addresses usable at once (no duplicate address detection), keep it from
// dropping what an asymmetric route brings, and let it say no as often as it is asked. They are set
// before the host has a link.
var hostSysctls = []string{
	"ipv4/conf/all/rp_filter=0",
	"ipv4/conf/default/rp_filter=0",
	"ipv6/conf/all/disable_ipv6=0",
	"ipv6/conf/default/disable_ipv6=0",
	"ipv6/conf/all/accept_dad=0",
	"ipv6/conf/default/accept_dad=0",
	"ipv6/conf/default/dad_transmits=0",
	"ipv6/conf/all/accept_ra=0",
	"ipv6/conf/default/accept_ra=0",
	// Nodes and clients share a link: a node that forwards a packet back to it tells the client of
	// a shorter way, and the client would remember it past the test.
	"ipv4/conf/all/accept_redirects=0",
	"ipv4/conf/default/accept_redirects=0",
	"ipv6/conf/all/accept_redirects=0",
	"ipv6/conf/default/accept_redirects=0",
	// Every rejected packet is answered, not one per second.
	"ipv4/icmp_ratelimit=0",
	"ipv4/icmp_ratemask=0", // nor so many for the whole machine
	"ipv6/icmp/ratelimit=0",
}

var nodeSysctls = []string{
	"ipv4/ip_forward=1",
	"ipv6/conf/all/forwarding=1",
}

// setSysctls sets sysctls of the calling thread's network namespace, given as path=value under
// /proc/sys/net.
func setSysctls(settings []string) error {
	for _, setting := range settings {
		path, value := setting[:len(setting)-2], setting[len(setting)-1:]
		if err := os.WriteFile(filepath.Join("/proc/sys/net", path), []byte(value), 0); err != nil {
			return fmt.Errorf("setting sysctl: %w", err)
		}
	}
	return nil
}

// wiring is one end of a veth pair and what is configured on it.
type wiring struct {
	namespace netns.NsHandle
	link      string
	addresses []netip.Prefix
	routes    []route
	neighbors []neighbor
}

// route leads to a prefix, through a gateway unless that is the zero Addr. Gateways are on-link.
type route struct {
	to      netip.Prefix
	gateway netip.Addr
	source  netip.Addr // of packets the host itself sends; zero: the kernel's choice
}

// neighbor is a permanent entry of the neighbor table, so that nobody in the lab waits for ARP or
// NDP: a host answers neighbor solicitations only some time after it got its address, and a question
// asked too early is repeated a second later. It also keeps the lab out of the kernel's limit for
// learned neighbors, which all network namespaces share.
type neighbor struct {
	address netip.Addr
	mac     net.HardwareAddr
}

// apply sets the link up, then adds addresses, neighbors and routes.
func (w wiring) apply() error {
	handle, err := netlink.NewHandleAt(w.namespace, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	defer handle.Close()
	link, err := handle.LinkByName(w.link)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", w.link, err)
	}
	for _, a := range w.addresses {
		address := &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD}
		if err := handle.AddrAdd(link, address); err != nil {
			return fmt.Errorf("adding address %s to %s: %w", a, w.link, err)
		}
	}
	if err := handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %s up: %w", w.link, err)
	}
	for _, n := range w.neighbors {
		if err := addNeighbor(handle, link, n); err != nil {
			return err
		}
	}
	for _, r := range w.routes {
		if err := addRoute(handle, link, r); err != nil {
			return err
		}
	}
	return nil
}

func addNeighbor(handle *netlink.Handle, link netlink.Link, n neighbor) error {
	err := handle.NeighSet(&netlink.Neigh{
		LinkIndex:    link.Attrs().Index,
		Family:       family(n.address),
		State:        netlink.NUD_PERMANENT,
		IP:           n.address.AsSlice(),
		HardwareAddr: n.mac,
	})
	if err != nil {
		return fmt.Errorf("adding neighbor %s: %w", n.address, err)
	}
	return nil
}

func addRoute(handle *netlink.Handle, link netlink.Link, r route) error {
	entry := &netlink.Route{LinkIndex: link.Attrs().Index, Family: family(r.to.Addr()), Dst: ipNet(r.to)}
	if r.gateway.IsValid() {
		entry.Gw = r.gateway.AsSlice()
		entry.SetFlag(netlink.FLAG_ONLINK)
	} else {
		entry.Scope = netlink.SCOPE_LINK
	}
	if r.source.IsValid() {
		entry.Src = r.source.AsSlice()
	}
	// Replaced, not added: a node that takes the number of a removed one takes over its routes.
	if err := handle.RouteReplace(entry); err != nil {
		return fmt.Errorf("adding route to %s: %w", r.to, err)
	}
	return nil
}

// rejectRest makes the addresses of a prefix that have no route of their own unreachable at once.
func rejectRest(handle *netlink.Handle, prefixes ...netip.Prefix) error {
	for _, p := range prefixes {
		err := handle.RouteAdd(&netlink.Route{Family: family(p.Addr()), Dst: ipNet(p), Type: unix.RTN_UNREACHABLE})
		if err != nil {
			return fmt.Errorf("adding unreachable route to %s: %w", p, err)
		}
	}
	return nil
}

// deleteRoutes deletes routes that may be missing.
func deleteRoutes(handle *netlink.Handle, prefixes ...netip.Prefix) error {
	for _, p := range prefixes {
		// SCOPE_NOWHERE matches every scope.
		err := handle.RouteDel(&netlink.Route{Family: family(p.Addr()), Dst: ipNet(p), Scope: netlink.SCOPE_NOWHERE})
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("deleting route to %s: %w", p, err)
		}
	}
	return nil
}

// awaitUp waits until the kernel's link watcher has noticed that the links have a carrier. Until
// then they drop what is sent, and a lost first packet costs its sender a second. (Since Linux 6.8
// asking is enough.)
func awaitUp(handle *netlink.Handle, names ...string) error {
	return poll(context.Background(), linkBound, nil, func(context.Context) error {
		for _, name := range names {
			link, err := handle.LinkByName(name)
			if err != nil {
				return fmt.Errorf("finding link %s: %w", name, err)
			}
			if link.Attrs().OperState != netlink.OperUp {
				return fmt.Errorf("link %s to be up (it is %s)", name, link.Attrs().OperState)
			}
		}
		return nil
	})
}

func deleteLink(handle *netlink.Handle, name string) error {
	link, err := handle.LinkByName(name)
	if err == nil {
		err = handle.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("deleting link %s: %w", name, err)
	}
	return nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// createBridge makes the fabric: a bridge that forwards at once and floods multicast.
func createBridge(name string, mac net.HardwareAddr) error {
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &snooping}
	bridge.Name, bridge.HardwareAddr = name, mac
	if err := netlink.LinkAdd(bridge); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("creating bridge %s: there is a network in this lab already; close it first: %w", name, err)
		}
		return fmt.Errorf("creating bridge %s: %w", name, err)
	}
	return nil
}

// veth is a pair of links: near is created in the namespace of the netlink handle it is given to.
type veth struct {
	near, far       string
	nearMAC, farMAC net.HardwareAddr
	farNamespace    netns.NsHandle
	bridge          string // of near; "" for none
}

func (v veth) create(handle *netlink.Handle) error {
	pair := &netlink.Veth{
		LinkAttrs:        netlink.NewLinkAttrs(),
		PeerName:         v.far,
		PeerHardwareAddr: v.farMAC,
		PeerNamespace:    netlink.NsFd(v.farNamespace),
	}
	pair.Name, pair.HardwareAddr = v.near, v.nearMAC
	if err := handle.LinkAdd(pair); err != nil {
		return fmt.Errorf("creating veth %s: %w", v.near, err)
	}
	if v.bridge == "" {
		return nil
	}
	bridge, err := handle.LinkByName(v.bridge)
	if err != nil {
		return fmt.Errorf("finding bridge %s: %w", v.bridge, err)
	}
	if err := handle.LinkSetMaster(pair, bridge); err != nil {
		return fmt.Errorf("connecting %s to %s: %w", v.near, v.bridge, err)
	}
	if err := handle.LinkSetUp(pair); err != nil {
		return fmt.Errorf("setting %s up: %w", v.near, err)
	}
	return nil
}
