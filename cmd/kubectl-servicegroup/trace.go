package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/describe"
)

const traceExample = `  # Where a connection of pod visitor to port 80 of web goes, and whether the kernel says the same.
  kubectl servicegroup trace web:80 --from visitor

  # From a client outside to the NodePort on node2, and from the node itself to the virtual IP.
  kubectl servicegroup trace web:http --from 198.51.100.7 --node node2
  kubectl servicegroup trace web:80 --from node/node1

  # A port that has two protocols.
  kubectl servicegroup trace dns:53 --from visitor --protocol udp`

type traceOptions struct {
	*plugin
	from, node, protocol, address string
	format                        *output
}

func newTraceCommand(p *plugin) *cobra.Command {
	o := &traceOptions{plugin: p}
	cmd := &cobra.Command{
		Use:   "trace NAME:PORT --from CLIENT",
		Short: "Follow a connection step by step, and compare with the node's kernel",
		Long: "Follow a connection step by step: computed from the objects as the agent does it, and compared with what the kernel of the node holds." +
			"\n\nIt exits with status 1 when the kernel differs, or cannot be asked.",
		Example:           traceExample,
		Args:              func(_ *cobra.Command, args []string) error { return o.validate(args) },
		ValidArgsFunction: p.completeGroupPorts,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().StringVar(&o.from, "from", "", "the client: an address, the name of a pod, or node/NAME")
	cmd.Flags().StringVar(&o.node, "node", "", "node on which the connection arrives; default: the client's own, or the first")
	cmd.Flags().StringVar(&o.protocol, "protocol", "", "tcp, udp or sctp; default: that of the port")
	cmd.Flags().StringVar(&o.address, "address", "", "address the client connects to; default: the virtual IP, or from outside the NodePort")
	o.format = newOutput(cmd, "wide")
	p.withCompletion(cmd, "from", p.completeClients)
	p.withCompletion(cmd, "address", words())
	p.withCompletion(cmd, "protocol", words("tcp", "udp", "sctp"))
	return p.withCompletion(cmd, "node", p.completeNodes)
}

func (o *traceOptions) validate(args []string) error {
	if len(args) != 1 {
		return misusef("name a ServiceGroup and a port, such as web:80")
	}
	if name, port, found := cutPort(args[0]); !found || name == "" || port == "" {
		return misusef("%s: name a ServiceGroup and a port, such as web:80", args[0])
	}
	if o.from == "" {
		return misusef("say who connects with --from: an address, the name of a pod, or node/NAME")
	}
	if kind, _, found := strings.Cut(o.from, "/"); found && !slices.Contains([]string{"pod", "pods", "po", "node", "nodes", "no"}, kind) {
		return misusef("--from %s: give an address, the name of a pod, or node/NAME", o.from)
	}
	if !slices.Contains([]string{"", "tcp", "udp", "sctp"}, strings.ToLower(o.protocol)) {
		return misusef("--protocol %s: give tcp, udp or sctp", o.protocol)
	}
	if _, err := netip.ParseAddr(o.address); err != nil && o.address != "" {
		return misusef("--address %s: give an IP address", o.address)
	}
	return nil
}

func cutPort(arg string) (name, port string, found bool) {
	at := strings.LastIndexByte(arg, ':')
	if at < 0 {
		return arg, "", false
	}
	return arg[:at], arg[at+1:], true
}

func (o *traceOptions) run(ctx context.Context, arg string) error {
	first, port, _ := cutPort(arg)
	name, err := groupName(first)
	if err != nil {
		return err
	}
	c, err := o.connect(debuggerRole)
	if err != nil {
		return err
	}
	observed, err := c.observe(ctx, name)
	if err != nil {
		return err
	}
	connection := describe.Connection{Port: port, Protocol: o.protocol}
	if connection.Client, err = describe.FindClient(o.from, observed); err != nil {
		return err
	}
	connection.Address, _ = netip.ParseAddr(o.address) // none where it was not given
	if connection.Node, err = describe.ChooseNode(o.node, connection.Client, observed); err != nil {
		return err
	}
	dump, silence := c.dump(ctx, connection, observed)
	if apierrors.IsForbidden(silence) {
		return silence
	}
	traced, err := describe.ComputeTrace(observed, connection, dump, silence)
	if err != nil {
		return err
	}
	if err := o.print(render(o.format, "Trace", traced, func(t describe.Trace) string { return t.Text(paint(o.Out), o.format.width()) })); err != nil {
		return err
	}
	if traced.Kernel.Agrees == nil || !*traced.Kernel.Agrees {
		return errFailed
	}
	return nil
}

// dump asks the agent of the node where a connection arrives about the Service.
func (c *cluster) dump(ctx context.Context, connection describe.Connection, observed *describe.Observed) (*agentapi.Dump, error) {
	node := connection.Node
	pods, err := c.agentPods(ctx)
	if err != nil {
		return nil, err
	}
	pod := pods[node]
	if pod == nil {
		return nil, fmt.Errorf("node %s has no agent; kubectl servicegroup check looks at the installation", node)
	}
	dump := &agentapi.Dump{}
	question := []string{"dump", "-o", "json", "--service", c.namespace + "/" + observed.Group.Name}
	if observed.Service != nil && observed.Service.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		for _, addr := range connection.Client.Addresses {
			question = append(question, "--client", addr.String())
		}
	}
	if err := c.ask(ctx, pod, dump, question...); err != nil {
		return nil, err
	}
	return dump, nil
}
