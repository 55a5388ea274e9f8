package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

func newManagerCommand(c *common) *cobra.Command {
	var probeAddress, electionNamespace, nodePorts string
	var elect bool
	var qps float32
	var externalRanges []string
	watched := observability{metricsAddress: ":8443"}
	options := servicegroup.Options{Budgets: plan.DefaultBudgets}
	cmd := &cobra.Command{
		Use:   "manager",
		Short: "Run the operator: it writes the Services and EndpointSlices of every ServiceGroup",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if options.NodePortRange, err = plan.ParseNodePortRange(nodePorts); err != nil {
				return fmt.Errorf("--node-port-range: %w", err)
			}
			if options.ExternalRanges, err = parseCIDRs("--external-ranges", externalRanges); err != nil {
				return err
			}
			_, config, err := c.setup()
			if err != nil {
				return err
			}
			config.QPS, config.Burst = qps, int(2*qps)
			shareWrites(&options, qps)
			if err := watched.servePprof(cmd.Context()); err != nil {
				return err
			}
			return runManager(cmd.Context(), config, options, ctrl.Options{
				Metrics:                 watched.metricsOptions(),
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
	watched.addFlags(flags)
	flags.StringVar(&probeAddress, "health-probe-bind-address", ":8081", "address for /healthz and /readyz; 0 turns it off")
	flags.BoolVar(&elect, "leader-elect", false, "work only while holding a lease, so that several managers can run")
	flags.StringVar(&electionNamespace, "leader-elect-namespace", os.Getenv("POD_NAMESPACE"), "namespace of the lease; default: the environment's POD_NAMESPACE, without it that of the service account")
	flags.StringVar(&options.LeaseNamespace, "lease-namespace", os.Getenv("POD_NAMESPACE"), "namespace of the Leases in which the agents report what they have programmed; default: the environment's POD_NAMESPACE, without it there is no condition Programmed")
	flags.StringVar(&nodePorts, "node-port-range", "", "range from which to give NodePorts, the same to the same manifest everywhere, such as 30000-32767; it must be a part of the API server's. Default: the API server allocates")
	flags.StringSliceVar(&externalRanges, "external-ranges", nil, "ranges of the addresses outside the cluster that external groups may lead to, such as 192.0.2.0/24,2001:db8::/32; leave out those of pods, Services and nodes. Default: none")
	addBudgetFlags(flags, &options.Budgets)
	flags.IntVar(&options.Concurrency, "concurrency", 0, "ServiceGroups reconciled at once; 0 is the default")
	flags.IntVar(&options.Probe.CheckWorkers, "health-check-workers", 0, "health checks of addresses outside the cluster under way at once; 0 is the default")
	flags.Float32Var(&qps, "kube-api-qps", 200, "requests a second to the API server, with bursts of twice as many")
	flags.Float64Var(&options.NamespaceWriteQPS, "namespace-write-qps", 0, "writes a second to the API server for the ServiceGroups of one namespace; default: half of --kube-api-qps")
	flags.IntVar(&options.NamespaceWriteBurst, "namespace-write-burst", 0, "writes for the ServiceGroups of one namespace at once; default: ten times --kube-api-qps")
	flags.DurationVar(&options.EndpointUpdatesBatchPeriod, "endpoint-updates-batch-period", 0, "how long changes of pods are gathered before EndpointSlices are written, such as 500ms: fewer writes, later endpoints. Default: written at once")
	return cmd
}

// addBudgetFlags adds what an administrator may raise.
func addBudgetFlags(flags *pflag.FlagSet, budgets *plan.Budgets) {
	flags.IntVar(&budgets.Endpoints, "max-endpoints", budgets.Endpoints, "endpoints of one ServiceGroup: the pods of each group times the ports that lead to it")
	flags.IntVar(&budgets.Backends, "max-backends", budgets.Backends, "groups behind all ports of one ServiceGroup")
	flags.IntVar(&budgets.SelectorValues, "max-selector-values", budgets.SelectorValues, "values in the selectors of one ServiceGroup")
	flags.IntVar(&budgets.HealthChecks, "max-health-checks", budgets.HealthChecks, "external addresses of one ServiceGroup whose health is checked")
	flags.IntVar(&budgets.ExposedServices, "max-exposed-services", budgets.ExposedServices, "Services of groups of one ServiceGroup with exposeGroups")
}

// shareWrites gives each namespace half of the requests that there are, unless told otherwise: one that
// writes without end leaves as much to the others. What comes at once and ends within seconds is let
// through, since namespaces take turns anyway.
func shareWrites(options *servicegroup.Options, qps float32) {
	if qps <= 0 {
		return // the client has no limit of its own
	}
	if options.NamespaceWriteQPS == 0 {
		options.NamespaceWriteQPS = float64(qps) / 2
	}
	if options.NamespaceWriteBurst == 0 {
		options.NamespaceWriteBurst = max(int(10*qps), 100)
	}
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
