// Command servicegroup is the operator and the node agent of ServiceGroup in one binary: flags and
// wiring, no logic.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/node"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// version is stamped by the build.
var version = "development"

func main() {
	if err := newCommand().ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "servicegroup:", err)
		os.Exit(1)
	}
}

// common are the flags that the manager and the agent share.
type common struct {
	kubeconfig string
	verbosity  int
}

func newCommand() *cobra.Command {
	c := &common{}
	root := &cobra.Command{
		Use:           "servicegroup",
		Short:         "One entry point in front of many groups of pods: operator and node agent",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&c.kubeconfig, "kubeconfig", "", "file that says how to reach the API server; without it the pod's service account is used")
	root.PersistentFlags().IntVarP(&c.verbosity, "v", "v", 0, "how much to log: 0 is what an administrator reads, 1 each change")
	root.AddCommand(newManagerCommand(c), newAgentCommand(c))
	return root
}

// setup returns the logger and the client configuration.
func (c *common) setup() (logr.Logger, *rest.Config, error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // caches make most of both: memory is dearer than a little CPU
	}
	log := logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.Level(-c.verbosity)}))
	klog.SetLogger(log)
	ctrl.SetLogger(log)
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return log, nil, fmt.Errorf("reading how to reach the API server (give --kubeconfig when not running in a pod): %w", err)
	}
	config.UserAgent = "servicegroup/" + version
	return log, config, nil
}

func newManagerCommand(c *common) *cobra.Command {
	var metricsAddress, probeAddress, electionNamespace, nodePorts string
	var elect bool
	var qps float32
	options := servicegroup.Options{}
	cmd := &cobra.Command{
		Use:   "manager",
		Short: "Run the operator: it writes the Services and EndpointSlices of every ServiceGroup",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, config, err := c.setup()
			if err != nil {
				return err
			}
			config.QPS, config.Burst = qps, int(2*qps)
			if options.NodePortRange, err = plan.ParseNodePortRange(nodePorts); err != nil {
				return fmt.Errorf("--node-port-range: %w", err)
			}
			return runManager(cmd.Context(), config, options, ctrl.Options{
				Metrics:                 metricsserver.Options{BindAddress: metricsAddress},
				HealthProbeBindAddress:  probeAddress,
				LeaderElection:          elect,
				LeaderElectionID:        "servicegroup-manager",
				LeaderElectionNamespace: electionNamespace,
				// The process ends right after the lease is given up, so nothing writes without it.
				LeaderElectionReleaseOnCancel: true,
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&metricsAddress, "metrics-bind-address", ":8080", "address for /metrics; 0 turns it off")
	flags.StringVar(&probeAddress, "health-probe-bind-address", ":8081", "address for /healthz and /readyz; 0 turns it off")
	flags.BoolVar(&elect, "leader-elect", false, "work only while holding a lease, so that several managers can run")
	flags.StringVar(&electionNamespace, "leader-elect-namespace", "", "namespace of the lease; default: the pod's own")
	flags.StringVar(&options.LeaseNamespace, "lease-namespace", os.Getenv("POD_NAMESPACE"), "namespace of the Leases in which the agents report what they have programmed; default: the environment's POD_NAMESPACE, without it there is no condition Programmed")
	flags.StringVar(&nodePorts, "node-port-range", "", "range from which to give NodePorts, the same to the same manifest everywhere, such as 30000-32767; it must be a part of the API server's. Default: the API server allocates")
	flags.IntVar(&options.Concurrency, "concurrency", 0, "ServiceGroups reconciled at once; 0 is the default")
	flags.Float32Var(&qps, "kube-api-qps", 100, "requests a second to the API server, with bursts of twice as many")
	return cmd
}

func runManager(ctx context.Context, config *rest.Config, options servicegroup.Options, managerOptions ctrl.Options) error {
	managerOptions.Scheme = runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(managerOptions.Scheme))
	utilruntime.Must(v1alpha1.AddToScheme(managerOptions.Scheme))
	managerOptions.Cache = servicegroup.CacheOptions()
	if options.LeaseNamespace != "" {
		managerOptions.Cache.ByObject[&coordinationv1.Lease{}] = servicegroup.LeaseCache(options.LeaseNamespace)
	}
	mgr, err := ctrl.NewManager(config, managerOptions)
	if err != nil {
		return fmt.Errorf("starting the manager: %w", err)
	}
	if err := servicegroup.Setup(ctx, mgr, options); err != nil {
		return err
	}
	if err := errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("ping", healthz.Ping)); err != nil {
		return fmt.Errorf("adding health checks: %w", err)
	}
	return mgr.Start(ctx)
}

func newAgentCommand(c *common) *cobra.Command {
	var metricsAddress, healthAddress string
	var cidrs []string
	options := node.Options{}
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
			config.ContentType = runtime.ContentTypeProtobuf
			if options.ClusterCIDRs, err = parseCIDRs(cidrs); err != nil {
				return err
			}
			if options.Client, err = kubernetes.NewForConfig(config); err != nil {
				return fmt.Errorf("connecting to the API server: %w", err)
			}
			return runAgent(cmd.Context(), options, metricsAddress, healthAddress)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.NodeName, "node-name", os.Getenv("NODE_NAME"), "name of this node's Node object; default: the environment's NODE_NAME")
	flags.StringVar((*string)(&options.Mode), "mode", string(node.ModeGroups), "which Services to serve: groups for those of ServiceGroups, all to replace kube-proxy")
	flags.StringSliceVar(&options.NodePorts, "nodeport-addresses", []string{"primary"}, "which of the node's addresses answer on NodePorts: primary, all, or ranges such as 192.168.0.0/16")
	flags.StringSliceVar(&cidrs, "cluster-cidr", nil, "ranges of all pod addresses, such as 10.244.0.0/16,fd00:10:244::/48; connections from elsewhere to a virtual IP are masqueraded")
	flags.StringVar((*string)(&options.DetectLocal), "detect-local-mode", string(node.DetectClusterCIDR), "how pods are told from what is outside: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix")
	flags.StringVar(&options.PodBridge, "pod-bridge-interface", "", "bridge of this node's pods, for --detect-local-mode=BridgeInterface")
	flags.StringVar(&options.PodInterfacePrefix, "pod-interface-name-prefix", "", "what the names of the pods' interfaces begin with, for --detect-local-mode=InterfaceNamePrefix")
	flags.BoolVar(&options.MasqueradeAll, "masquerade-all", false, "masquerade every connection to a virtual IP")
	flags.StringVar(&options.LeaseNamespace, "lease-namespace", os.Getenv("POD_NAMESPACE"), "namespace of the Lease in which the agent reports what it has programmed; default: the environment's POD_NAMESPACE, without it the agent does not report")
	flags.StringVar(&metricsAddress, "metrics-bind-address", ":10249", "address for /metrics; 0 turns it off")
	flags.StringVar(&healthAddress, "health-bind-address", ":10256", "address for /healthz and /livez; 0 turns it off")
	cmd.AddCommand(&cobra.Command{
		Use:   "cleanup",
		Short: "Delete the agent's nftables tables, and nothing else",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return node.Cleanup() },
	})
	var all bool
	dump := &cobra.Command{
		Use:   "dump",
		Short: "Print how what the agent on this node believes differs from what the kernel holds",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return node.Dump(cmd.OutOrStdout(), all) },
	}
	dump.Flags().BoolVar(&all, "all", false, "print every element, not only those that differ")
	cmd.AddCommand(dump)
	return cmd
}

func parseCIDRs(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--cluster-cidr %q is not a range such as 10.244.0.0/16: %w", text, err)
		}
		out = append(out, prefix)
	}
	return out, nil
}

func runAgent(ctx context.Context, options node.Options, metricsAddress, healthAddress string) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	options.Registerer = registry
	agent, err := node.New(options)
	if err != nil {
		return err
	}
	metrics := http.NewServeMux()
	metrics.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	metrics.HandleFunc("GET /proxyMode", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("nftables")) // what kube-proxy says there; the asker has gone if this fails
	})
	if err := errors.Join(serve(ctx, metricsAddress, metrics), serve(ctx, healthAddress, agent.Health())); err != nil {
		return err
	}
	return agent.Run(ctx)
}

// serve answers HTTP on address until ctx ends; address 0 is none.
func serve(ctx context.Context, address string, handler http.Handler) error {
	if address == "0" {
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", address, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	// Serve returns when ctx ends and the server is closed.
	go func() { _ = server.Serve(listener) }()
	return nil
}
