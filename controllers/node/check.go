package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// attemptTimeout bounds a connection of the self-test: what is dropped would take minutes.
const attemptTimeout = 2 * time.Second

// CheckOptions say what to look at besides the node itself.
type CheckOptions struct {
	Version string
	// Connect are addresses with ports to make a TCP connection to.
	Connect []string
	// Output is text, the default, or json.
	Output string
}

// Check looks at the node of this network namespace: whether it can do what the agent needs, and who
// else is there. It changes nothing.
func Check(ctx context.Context, out io.Writer, options CheckOptions) error {
	if options.Output != "json" && options.Output != "text" && options.Output != "" {
		return fmt.Errorf("-o %s: give text or json", options.Output)
	}
	check := &agentapi.NodeCheck{Version: options.Version, Kernel: kernelRelease()}
	check.Probes = append(check.Probes, probeKernel(), probeForwarding(), probeConntrack())
	check.Probes = append(check.Probes, probeTables(check)...)
	check.Probes = append(check.Probes, lookForOthers(check)...)
	dump := &agentapi.Dump{}
	if err := askLocal(dumpSocket, question{}, dump); err != nil {
		check.Silence = err.Error()
	} else {
		check.Mode = dump.Mode
		check.Listeners = listenersOn(dump)
	}
	check.Connections = connectAll(ctx, options.Connect)
	if options.Output == "json" {
		return json.NewEncoder(out).Encode(check)
	}
	return printCheck(out, check)
}

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return string(name.Release[:bytes.IndexByte(name.Release[:], 0)])
}

// minimumKernel is the oldest kernel whose nftables takes all of the layout.
var minimumKernel = [2]int{5, 13}

func probeKernel() agentapi.Probe {
	p := agentapi.Probe{Name: "kernel"}
	var major, minor int
	if _, err := fmt.Sscanf(kernelRelease(), "%d.%d", &major, &minor); err != nil {
		return p // the tables' probe says what matters
	}
	if major < minimumKernel[0] || major == minimumKernel[0] && minor < minimumKernel[1] {
		p.Problem = fmt.Sprintf("Linux %s is too old", kernelRelease())
		p.Remedy = fmt.Sprintf("boot Linux %d.%d or newer", minimumKernel[0], minimumKernel[1])
	}
	return p
}

func probeForwarding() agentapi.Probe {
	p := agentapi.Probe{Name: "forwarding"}
	if value, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err == nil && strings.TrimSpace(string(value)) != "1" {
		p.Problem, p.Remedy = "net.ipv4.ip_forward is off, so connections to pods on other nodes go nowhere", "sysctl -w net.ipv4.ip_forward=1"
	}
	return p
}

// probeConntrack looks how full the connection table is; what does not fit is dropped.
func probeConntrack() agentapi.Probe {
	const folder = "/proc/sys/net/netfilter/"
	p := agentapi.Probe{Name: "connection tracking"}
	used, err := readNumber(folder + "nf_conntrack_count")
	most, err2 := readNumber(folder + "nf_conntrack_max")
	switch {
	case errors.Join(err, err2) != nil:
		p.Problem, p.Remedy = "the kernel tracks no connections: "+errors.Join(err, err2).Error(), "modprobe nf_conntrack"
	case most > 0 && used > most/10*9:
		p.Problem = fmt.Sprintf("the connection table is nearly full: %d of %d", used, most)
		p.Remedy = fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 2*most)
	}
	return p
}

func readNumber(path string) (int, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(content)))
}

// probeTables tries the layouts, and notes whose rules are there besides.
func probeTables(check *agentapi.NodeCheck) []agentapi.Probe {
	var out []agentapi.Probe
	for _, try := range []struct {
		name     string
		layout   nft.Layout
		optional bool
	}{
		{"nftables", nft.Layout{}, false},
		{"connection counters", nft.Layout{CountConnections: true}, true},
	} {
		p := agentapi.Probe{Name: try.name, Optional: try.optional}
		err := func() error {
			tables, err := nft.Open(try.layout)
			if err != nil {
				return err
			}
			defer tables.Close()
			if err := tables.Probe(); err != nil {
				return err
			}
			check.Proxies, err = tables.Others()
			return err
		}()
		if err != nil {
			p.Problem = "the kernel does not take the tables: " + err.Error()
			p.Remedy = "give the agent CAP_NET_ADMIN, and boot a kernel with nf_tables, nft_nat, nft_masq, nft_fib, nft_numgen, nft_reject and nft_ct"
		}
		out = append(out, p)
	}
	return out
}

// lookForOthers notes proxies that are not in nftables, and returns a probe if it could not look.
func lookForOthers(check *agentapi.NodeCheck) (problems []agentapi.Probe) {
	for device, proxy := range map[string]string{"kube-ipvs0": "kube-proxy in mode ipvs", "cilium_host": "Cilium"} {
		if _, err := net.InterfaceByName(device); err == nil {
			check.Proxies = append(check.Proxies, proxy)
		}
	}
	legacy, err := hasLegacyProxy()
	if legacy {
		check.Proxies = append(check.Proxies, legacyProxy)
	}
	if err != nil {
		problems = append(problems, agentapi.Probe{
			Name: "legacy iptables", Optional: true, Problem: "whether kube-proxy has rules there is not known: " + err.Error(), Remedy: "give the agent CAP_NET_ADMIN",
		})
	}
	slices.Sort(check.Proxies)
	return problems
}

// listenersOn are the processes that listen where NodePorts are, whether the agent serves these or leaves
// them to the processes.
func listenersOn(dump *agentapi.Dump) []agentapi.Listener {
	var out []agentapi.Listener
	add := func(key proxy.Key, kept bool) {
		at := netip.AddrPortFrom(key.Addr, key.Port).String()
		out = append(out, agentapi.Listener{Address: at, Protocol: key.Protocol.String(), Kept: kept})
	}
	for _, key := range dump.Left {
		add(key, true)
	}
	open, err := listOpen()
	if err != nil {
		return out
	}
	l := listeners{open: open}
	for _, e := range dump.Agent {
		if e.Map == ruleset.Frontends && slices.Contains(dump.Node.NodePortAddresses, e.Key.Addr) && l.occupied(e.Key) {
			add(e.Key, false)
		}
	}
	return out
}

// connectAll tries all addresses at once.
func connectAll(ctx context.Context, addresses []string) []agentapi.Attempt {
	out := make([]agentapi.Attempt, len(addresses))
	var all sync.WaitGroup
	for i, address := range addresses {
		all.Go(func() {
			out[i].Address = address
			ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
			defer cancel()
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				out[i].Problem = err.Error()
				return
			}
			_ = conn.Close()
		})
	}
	all.Wait()
	return out
}

func printCheck(out io.Writer, check *agentapi.NodeCheck) error {
	var errs []error
	line := func(format string, args ...any) {
		_, err := fmt.Fprintf(out, format+"\n", args...)
		errs = append(errs, err)
	}
	line("version: %s, Linux %s", check.Version, check.Kernel)
	if check.Silence != "" {
		line("agent: %s", check.Silence)
	}
	for _, p := range check.Probes {
		if p.Problem == "" {
			line("%s: ok", p.Name)
		} else {
			line("%s: %s; %s", p.Name, p.Problem, p.Remedy)
		}
	}
	for _, proxy := range check.Proxies {
		line("other proxy: %s", proxy)
	}
	for _, l := range check.Listeners {
		line("a process listens on NodePort %s/%s; kept by it: %t", l.Address, l.Protocol, l.Kept)
	}
	for _, a := range check.Connections {
		line("connection to %s: %s", a.Address, strings.TrimSpace(a.Problem+" "))
	}
	return errors.Join(errs...)
}
