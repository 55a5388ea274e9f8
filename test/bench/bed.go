package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// bed is the cluster everything is measured in.
type bed struct {
	options  options
	progress io.Writer
	lab      *lab.Lab
	objects  *objects
	farm     *farm
	proxies  []*contender
}

func newBed(ctx context.Context, o options, progress io.Writer) (*bed, error) {
	b := &bed{options: o, progress: progress}
	b.say("starting the lab")
	var err error
	b.lab, err = lab.Start(ctx, lab.Options{Nodes: 1, AgentArgs: []string{"--mode=all"}})
	if err != nil {
		return nil, err
	}
	if err := b.prepare(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// prepare starts the farm on the first node and adds a node and a client for each proxy.
func (b *bed) prepare(ctx context.Context) error {
	farmNode := b.lab.Nodes()[0]
	var err error
	if b.objects, err = newObjects(b.lab.ControlPlane.Config(), farmNode.Name); err != nil {
		return err
	}
	if b.farm, err = startFarm(farmNode.Host); err != nil {
		return fmt.Errorf("starting the servers: %w", err)
	}
	for _, spec := range contenders(b.lab) {
		if !strings.Contains(spec.name, b.options.only) {
			continue
		}
		if _, err := exec.LookPath(spec.tool); spec.tool != "" && err != nil {
			b.say("%s is left out: the program %s is missing", spec.name, spec.tool)
			continue
		}
		if err := b.addNode(ctx, spec, farmNode); err != nil {
			return fmt.Errorf("adding a node for %s: %w", spec.name, err)
		}
		b.proxies = append(b.proxies, spec)
	}
	return nil
}

// addNode gives the proxy a node of its own, with a client pod, and a route to the endpoints.
func (b *bed) addNode(ctx context.Context, c *contender, farmNode *lab.Node) error {
	var err error
	if c.node, err = b.lab.AddNode(ctx); err != nil {
		return err
	}
	if err := c.node.Do(func() error { return addEndpointRoute(farmNode.IPv4) }); err != nil {
		return err
	}
	pod, err := c.node.AddPod("client-of-" + c.node.Name)
	if err != nil {
		return err
	}
	c.client = pod.Host
	return nil
}

// addEndpointRoute leads from the calling thread's host to all endpoints.
func addEndpointRoute(via netip.Addr) error {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("finding eth0: %w", err)
	}
	err = netlink.RouteAdd(&netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: ipNet(endpointRange), Gw: via.AsSlice(),
	})
	if err != nil {
		return fmt.Errorf("adding the route to the endpoints: %w", err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// say reports progress.
func (b *bed) say(format string, args ...any) {
	fmt.Fprintf(b.progress, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

func (b *bed) close() error {
	if b.farm != nil {
		b.farm.close()
	}
	return b.lab.Close()
}

// measureAll measures every proxy at every size. The proxies take turns, so that a machine that gets
// slower or faster meanwhile does so for all of them.
func (b *bed) measureAll(ctx context.Context, r *report) error {
	for _, size := range b.options.sizes {
		started := time.Now()
		if err := b.objects.grow(ctx, size); err != nil {
			return err
		}
		b.say("%d Services exist (%.0f s)", size, time.Since(started).Seconds())
		for round := range b.options.rounds {
			for _, c := range b.at(size) {
				if err := b.round(ctx, r.at(size, c.name), c, round == b.options.rounds-1); err != nil {
					return fmt.Errorf("measuring %s at %d Services: %w", c.name, size, err)
				}
			}
		}
		if size <= b.options.connectUpTo {
			if err := b.connectAll(ctx, r); err != nil {
				return fmt.Errorf("making connections with %d Services: %w", size, err)
			}
		}
	}
	return nil
}

// at are the proxies that are measured at that size.
func (b *bed) at(size int) []*contender {
	var out []*contender
	for _, c := range b.proxies {
		if !c.gaveUp && (!c.iptables || size <= b.options.iptablesUpTo) {
			out = append(out, c)
		}
	}
	return out
}

// round starts the proxy on a clean node and measures it. What it has programmed stays when it is
// stopped. Changes are measured in the last round only.
func (b *bed) round(ctx context.Context, s sink, c *contender, last bool) error {
	if err := c.flush(ctx); err != nil {
		return err
	}
	process, err := b.cold(ctx, s, c)
	if process != nil {
		defer func() { _ = process.Stop() }() // only fails when the process has ended
	}
	if err != nil {
		return err
	}
	if c.gaveUp {
		return endGroup(ctx, process)
	}
	if last && b.objects.size() > probe {
		if err := b.change(ctx, s, c); err != nil {
			return err
		}
		u, err := process.Usage()
		s.add(settled, float64(u.Resident)/1e6)
		return err
	}
	return nil
}
