package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// dumpSocket is where the agent tells what it believes: an abstract address, which exists in the
// node's network namespace only and needs no file.
const dumpSocket = "@servicegroup-agent"

// dumpTimeout bounds both sides of a dump.
const dumpTimeout = 30 * time.Second

// belief is what the agent tells on dumpSocket.
type belief struct {
	// Synced says whether the agent knows what the kernel holds. It does not before its first sync
	// and after a failed one.
	Synced   bool
	Layout   nft.Layout
	Services int
	Elements []ruleset.Element
}

// serveLocal answers whoever connects to a socket of this network namespace with JSON, until ctx ends.
func serveLocal(ctx context.Context, address string, answer func() any) error {
	listener, err := net.Listen("unix", address)
	if err != nil {
		return fmt.Errorf("listening for commands (is another agent running on this node?): %w", err)
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // ctx has ended
			}
			// Whoever asked has gone if this fails.
			_ = conn.SetDeadline(time.Now().Add(dumpTimeout))
			_ = json.NewEncoder(conn).Encode(answer())
			_ = conn.Close()
		}
	}()
	return nil
}

// askLocal reads the answer of the agent that runs in this network namespace.
func askLocal(address string, answer any) error {
	conn, err := net.Dial("unix", address)
	if err != nil {
		return fmt.Errorf("no agent answers in this network namespace; run this on the node, in the agent's pod: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(dumpTimeout)); err != nil {
		return fmt.Errorf("asking the agent: %w", err)
	}
	if err := json.NewDecoder(conn).Decode(answer); err != nil {
		return fmt.Errorf("reading the agent's answer: %w", err)
	}
	return nil
}

func (a *Agent) believe() any {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := belief{Layout: a.options.layout()}
	if a.state != nil {
		b.Synced, b.Services, b.Elements = true, a.state.Len(), a.state.Elements()
	}
	return b
}

// Dump prints what the agent that runs in this network namespace believes, what the kernel holds, and
// where they differ; with all, every element.
func Dump(out io.Writer, all bool) error {
	believed := &belief{}
	if err := askLocal(dumpSocket, believed); err != nil {
		return err
	}
	tables, err := nft.Open(believed.Layout)
	if err != nil {
		return fmt.Errorf("connecting to nftables (this needs CAP_NET_ADMIN): %w", err)
	}
	defer tables.Close()
	found, ok, err := tables.Read()
	if err != nil {
		return err
	}
	return printDump(out, believed, found.Elements, ok, all)
}

// printDump marks elements that only the agent has with +, and those that only the kernel has with -.
func printDump(out io.Writer, b *belief, kernel []ruleset.Element, layout, all bool) error {
	difference := ruleset.Diff(kernel, b.Elements)
	var errs []error
	line := func(format string, args ...any) {
		_, err := fmt.Fprintf(out, format+"\n", args...)
		errs = append(errs, err)
	}
	line("agent:      %d elements of %d Services", len(b.Elements), b.Services)
	switch {
	case layout:
		line("kernel:     %d elements, in the layout this agent makes", len(kernel))
	default:
		line("kernel:     the tables are missing, or are not in the layout this agent makes")
	}
	switch {
	case !b.Synced:
		line("difference: the agent is about to look at the kernel; ask again")
	case len(difference.Add)+len(difference.Delete) == 0 && layout:
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
	if all {
		for i := range b.Elements {
			line("  %s", b.Elements[i])
		}
	}
	return errors.Join(errs...)
}
