package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/vishvananda/netlink"
)

// nodePorts says which of the node's addresses answer on NodePorts.
type nodePorts struct {
	// primary stands for the addresses of the Node object.
	primary bool
	// ranges hold the others.
	ranges []netip.Prefix
}

// parseNodePorts reads the words of --nodeport-addresses.
func parseNodePorts(words []string) (nodePorts, error) {
	out := nodePorts{primary: len(words) == 0}
	for _, word := range words {
		switch word {
		case "primary":
			out.primary = true
		case "all":
			out.ranges = append(out.ranges, netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0))
		default:
			prefix, err := netip.ParsePrefix(word)
			if err != nil {
				return out, fmt.Errorf("NodePort addresses %q: give primary, all, or a range such as 192.168.0.0/16", word)
			}
			out.ranges = append(out.ranges, prefix)
		}
	}
	return out, nil
}

// everywhere reports whether all addresses of the node are meant, in both families.
func (n *nodePorts) everywhere() bool {
	return slices.Contains(n.ranges, netip.PrefixFrom(netip.IPv4Unspecified(), 0)) &&
		slices.Contains(n.ranges, netip.PrefixFrom(netip.IPv6Unspecified(), 0))
}

// compute returns the addresses that answer, sorted. Loopback and link-local addresses never do:
// they would need route_localnet, which opens the node's own services to its neighbours
// (CVE-2020-8558).
func (n *nodePorts) compute(primary, local []netip.Addr) []netip.Addr {
	var out []netip.Addr
	if n.primary {
		out = append(out, primary...)
	}
	for _, addr := range local {
		if slices.ContainsFunc(n.ranges, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			out = append(out, addr)
		}
	}
	out = slices.DeleteFunc(out, func(a netip.Addr) bool { return a.IsLoopback() || a.IsLinkLocalUnicast() })
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// localAddresses returns the addresses of this network namespace.
func localAddresses() ([]netip.Addr, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("listing the node's addresses: %w", err)
	}
	var out []netip.Addr
	for i := range list {
		if addr, ok := netip.AddrFromSlice(list[i].IP); ok {
			out = append(out, addr.Unmap())
		}
	}
	return out, nil
}

// addressPause is the time before the addresses are watched again after that broke off.
const addressPause = time.Second

// watchAddresses calls changed whenever an address of this network namespace comes or goes, until ctx
// ends. When the watching breaks off, as it does when the kernel could not tell of a change, it calls
// changed as well, and begins anew.
func watchAddresses(ctx context.Context, log logr.Logger, subscribe func(chan<- netlink.AddrUpdate, <-chan struct{}) error, changed func()) {
	for {
		updates := make(chan netlink.AddrUpdate)
		if err := subscribe(updates, ctx.Done()); err != nil {
			log.Error(err, "Changes of the node's addresses may go unnoticed for a moment")
		} else {
			changed() // what happened before
			for range updates {
				changed()
			}
		}
		if !pause(ctx, addressPause) {
			return
		}
	}
}
