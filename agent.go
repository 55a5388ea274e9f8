package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/servicegroup-dev/servicegroup/controllers/node"
)

// agentFlags are the flags of the agent that are not its Options.
type agentFlags struct {
	watched       observability
	healthAddress string
	clusterCIDRs  []string
}

func newAgentCommand(c *common) *cobra.Command {
	settings := agentFlags{watched: observability{metricsAddress: ":10249"}}
	options := node.Options{Version: version}
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the node agent: it programs nftables for the virtual IPs and NodePorts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, config, err := c.setup()
			if err != nil {
				return err
			}
			options.Log = log
			if err := preferLists(); err != nil {
				return err
			}
			config.ContentType = runtime.ContentTypeProtobuf
			if options.ClusterCIDRs, err = parseCIDRs("--cluster-cidr", settings.clusterCIDRs); err != nil {
				return err
			}
			return runAgent(cmd.Context(), config, options, settings)
		},
	}
	settings.watched.addFlags(cmd.Flags())
	addAgentFlags(cmd, &options, &settings)
	cmd.AddCommand(newCleanupCommand(), newDumpCommand(), newCheckCommand(), newConnectionsCommand())
	return cmd
}

func addAgentFlags(cmd *cobra.Command, options *node.Options, settings *agentFlags) {
	flags := cmd.Flags()
	flags.StringVar(&options.NodeName, "node-name", os.Getenv("NODE_NAME"), "name of this node's Node object; default: the environment's NODE_NAME")
	flags.StringVar((*string)(&options.Mode), "mode", string(node.ModeGroups), "which Services to serve: groups for those of ServiceGroups, all to replace kube-proxy")
	flags.StringSliceVar(&options.NodePorts, "nodeport-addresses", []string{"primary"}, "which of the node's addresses answer on NodePorts: primary, all, or ranges such as 192.168.0.0/16")
	flags.StringSliceVar(&settings.clusterCIDRs, "cluster-cidr", nil, "ranges of all pod addresses, such as 10.244.0.0/16,fd00:10:244::/48; connections from elsewhere to a virtual IP are masqueraded")
	flags.StringVar((*string)(&options.DetectLocal), "detect-local-mode", string(node.DetectClusterCIDR), "how pods are told from what is outside: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix")
	flags.StringVar(&options.PodBridge, "pod-bridge-interface", "", "bridge of this node's pods, for --detect-local-mode=BridgeInterface")
	flags.StringVar(&options.PodInterfacePrefix, "pod-interface-name-prefix", "", "what the names of the pods' interfaces begin with, for --detect-local-mode=InterfaceNamePrefix")
	flags.BoolVar(&options.MasqueradeAll, "masquerade-all", false, "masquerade every connection to a virtual IP")
	flags.BoolVar(&options.CountConnections, "connection-counters", false, "count the connections of each endpoint, for the metric servicegroup_agent_connections_total and for agent connections")
	flags.StringVar(&options.LeaseNamespace, "lease-namespace", os.Getenv("POD_NAMESPACE"), "namespace of the Lease in which the agent reports what it has programmed; default: the environment's POD_NAMESPACE, without it the agent does not report")
	flags.StringVar(&settings.healthAddress, "health-bind-address", ":10256", "address for /healthz and /livez; 0 turns it off")
}

// preferLists makes informers begin with a list instead of a stream of every object as an event, unless
// the environment says otherwise. An agent that starts on a node without rules is waited for: a list of
// 10,000 Services and their endpoints takes half the time of the stream, and API servers since
// Kubernetes 1.34 write it out piece by piece, too.
func preferLists() error {
	const feature = "KUBE_FEATURE_WatchListClient" // client-go reads it with its first request
	if _, set := os.LookupEnv(feature); set {
		return nil
	}
	return os.Setenv(feature, "false")
}

func newCleanupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup",
		Short: "Delete the agent's nftables tables, and nothing else",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return node.Cleanup() },
	}
}

func newConnectionsCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "connections",
		Short: "Print how many connections each endpoint had on this node; the agent must run with --connection-counters",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return node.PrintConnections(cmd.OutOrStdout(), format) },
	}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "format of the output: text or json")
	return cmd
}

// parseCIDRs reads the ranges that were given with a flag.
func parseCIDRs(flag string, list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s %q is not a range such as 10.244.0.0/16: %w", flag, text, err)
		}
		out = append(out, prefix)
	}
	return out, nil
}

func runAgent(ctx context.Context, config *rest.Config, options node.Options, settings agentFlags) error {
	// Of all it asks only the first lists are long, and a network of nodes carries them in less time than an
	// API server needs to compress them, anew for every agent.
	config.DisableCompression = true
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	if options.Client, err = kubernetes.NewForConfigAndClient(config, client); err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	options.Registerer = metrics.Registry
	agent, err := node.New(options)
	if err != nil {
		return err
	}
	serving := settings.watched.metricsOptions()
	serving.ExtraHandlers = map[string]http.Handler{
		"GET /proxyMode": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("nftables")) // what kube-proxy says there; the asker has gone if this fails
		}),
	}
	server, err := metricsserver.NewServer(serving, config, client)
	if err != nil {
		return fmt.Errorf("preparing /metrics: %w", err)
	}
	if err := settings.watched.servePprof(ctx); err != nil {
		return err
	}
	if err := serve(ctx, settings.healthAddress, agent.Health()); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if server != nil {
		group.Go(func() error { return server.Start(ctx) })
	}
	group.Go(func() error { return agent.Run(ctx) })
	return group.Wait()
}
