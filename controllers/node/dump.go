package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// dumpSocket is where the agent tells what it believes: an abstract address, which exists in the
// node's network namespace only and needs no file.
const dumpSocket = "@servicegroup-agent"

func (a *Agent) believe(asked question) any {
	a.mu.Lock()
	defer a.mu.Unlock()
	layout := a.options.layout()
	d := &agentapi.Dump{
		Version: a.options.Version, Mode: string(a.options.Mode), Service: asked.Service,
		Node: a.node, Ranges: a.ranges,
		Site: agentapi.Site(layout),
	}
	if a.state == nil {
		return d
	}
	d.Synced, d.Services = true, a.state.Len()
	if asked.Service == "" {
		d.Agent, d.Left = a.state.Elements(), a.listeners.leftOf(types.NamespacedName{})
		return d
	}
	namespace, name, _ := strings.Cut(asked.Service, "/")
	service := types.NamespacedName{Namespace: namespace, Name: name}
	d.Agent, d.Left = a.state.ElementsOf(service), a.listeners.leftOf(service)
	d.Conflicts = a.conflictsOf(service)
	return d
}

// conflictsOf returns the frontends of a Service that another one has.
func (a *Agent) conflictsOf(name types.NamespacedName) []agentapi.Conflict {
	service, endpointSlices, err := a.watcher.service(name)
	if err != nil || service == nil {
		return nil
	}
	var out []agentapi.Conflict
	for _, f := range proxy.Build(service, endpointSlices, a.node).Frontends {
		if holder, taken := a.state.Holder(f.Key); taken && holder != name {
			out = append(out, agentapi.Conflict{Frontend: f.Key, Holder: holder.String()})
		}
	}
	return out
}

// DumpOptions say what to dump, and how.
type DumpOptions struct {
	// Service is the NAMESPACE/NAME to tell about; empty for everything.
	Service string
	// Clients are the addresses of whom to tell what session affinity remembers.
	Clients []string
	// All prints every element as text, not only those that differ.
	All bool
	// Output is text, the default, or json, which has every element.
	Output string
}

// Dump prints what the agent that runs in this network namespace believes, what the kernel holds, and
// where they differ.
func Dump(out io.Writer, options DumpOptions) error {
	if options.Output != "json" && options.Output != "text" && options.Output != "" {
		return fmt.Errorf("-o %s: give text or json", options.Output)
	}
	if options.Service != "" && strings.Count(options.Service, "/") != 1 {
		return fmt.Errorf("--service %s: give NAMESPACE/NAME", options.Service)
	}
	var clients []netip.Addr
	for _, text := range options.Clients {
		client, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("--client %s: give an IP address", text)
		}
		clients = append(clients, client.Unmap())
	}
	dump, err := observeDump(question{Service: options.Service}, clients)
	if err != nil {
		return err
	}
	if options.Output == "json" {
		return json.NewEncoder(out).Encode(dump)
	}
	return printDump(out, dump, options.All)
}

// observeDump asks the agent and reads the kernel.
func observeDump(asked question, clients []netip.Addr) (*agentapi.Dump, error) {
	dump := &agentapi.Dump{}
	if err := askLocal(dumpSocket, asked, dump); err != nil {
		return nil, err
	}
	tables, err := nft.Open(nft.Layout(dump.Site))
	if err != nil {
		return nil, fmt.Errorf("connecting to nftables (this needs CAP_NET_ADMIN): %w", err)
	}
	defer tables.Close()
	found, ok, err := tables.Read()
	if err != nil {
		return nil, err
	}
	dump.LayoutFound, dump.Kernel = ok, found.Elements
	if asked.Service != "" {
		dump.Kernel = ruleset.Related(found.Elements, dump.Agent)
	}
	dump.Clients = clients
	dump.Remembered, err = remembered(tables, clients, dump.Kernel)
	return dump, err
}

// remembered looks up what session affinity remembers of clients for the frontends among elements.
func remembered(tables *nft.Tables, clients []netip.Addr, elements []ruleset.Element) (out []ruleset.Remembered, err error) {
	for _, client := range clients {
		for _, share := range ruleset.SharesOf(elements, client.Is4()) {
			entry, found, err := tables.Remembered(client, share)
			if err != nil {
				return nil, err
			}
			if found {
				out = append(out, entry)
			}
		}
	}
	return out, nil
}

// printDump marks elements that only the agent has with +, and those that only the kernel has with -.
func printDump(out io.Writer, d *agentapi.Dump, all bool) error {
	difference := ruleset.Diff(d.Kernel, d.Agent)
	var errs []error
	line := func(format string, args ...any) {
		_, err := fmt.Fprintf(out, format+"\n", args...)
		errs = append(errs, err)
	}
	line("agent:      %d elements of %d Services", len(d.Agent), d.Services)
	switch {
	case d.LayoutFound:
		line("kernel:     %d elements, in the layout this agent makes", len(d.Kernel))
	default:
		line("kernel:     the tables are missing, or are not in the layout this agent makes")
	}
	switch {
	case !d.Synced:
		line("difference: the agent is about to look at the kernel; ask again")
	case len(difference.Add)+len(difference.Delete) == 0 && d.LayoutFound:
		line("difference: none")
	default:
		line("difference: %d elements only the agent has (+), %d only the kernel has (-)", len(difference.Add), len(difference.Delete))
	}
	for i := range difference.Add {
		line("+ %s", difference.Add[i])
	}
	for i := range difference.Delete {
		line("- %s", difference.Delete[i])
	}
	for _, entry := range d.Remembered {
		line("affinity:   %s", entry)
	}
	if len(d.Clients) > 0 && len(d.Remembered) == 0 {
		line("affinity:   remembers none of %v", d.Clients)
	}
	if all {
		for i := range d.Agent {
			line("  %s", d.Agent[i])
		}
	}
	return errors.Join(errs...)
}
