package servicegroup

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	endpointsliceutil "k8s.io/endpointslice/util"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/fairqueue"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
	"github.com/servicegroup-dev/servicegroup/internal/probe"
	"github.com/servicegroup-dev/servicegroup/internal/writelimit"
)

// controllerName names the controller in logs, metrics and events.
const controllerName = "servicegroup"

// What the manager may do, and nothing else. The admission plugin
// OwnerReferencesPermissionEnforcement asks for the finalizers subresources of whoever sets
// blockOwnerDeletion, and for delete of whoever sets an owner on a Service that exists, which
// happens when somebody removed it; the manager deletes only Services of groups no longer exposed.
//
// +kubebuilder:rbac:groups=net.servicegroup.dev,resources=servicegroups,verbs=list;watch
// +kubebuilder:rbac:groups=net.servicegroup.dev,resources=servicegroups/status,verbs=update
// +kubebuilder:rbac:groups=net.servicegroup.dev,resources=servicegroups/finalizers,verbs=update
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=services/finalizers,verbs=update
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list;watch;create;update;delete
// +kubebuilder:rbac:groups="",resources=pods;nodes,verbs=list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// startUp is how long the first lists and what they cause take, about.
const startUp = 10 * time.Second

// minWriteBurst is more than the writes of which a reconciliation keeps no trace when a later one fails:
// tries of NodePorts, the steps of an adoption.
const minWriteBurst = 2 * maxNodePortTries

// maxWriteQPS is more than any API server takes.
const maxWriteQPS = 1_000_000

// Options tune the controller. The zero value is good for a cluster of any usual size.
type Options struct {
	// Concurrency is how many ServiceGroups are reconciled at once. Default 16: a reconciliation mostly
	// waits for the API server, which takes its time to create a Service.
	Concurrency int
	// CountRefresh is how late the numbers of pods in status may be when they change without
	// becoming or ceasing to be zero. Default 10 s.
	CountRefresh time.Duration
	// RetryMin and RetryMax bound how often a refused Service is tried again while the spec stays
	// the same; the wait doubles each time. Default 5 s and 5 min.
	RetryMin, RetryMax time.Duration
	// LeaseNamespace is where the agents report what they have programmed, from which the condition
	// Programmed is computed; the manager's cache needs LeaseCache then. Empty: there is no such
	// condition.
	LeaseNamespace string
	// NodePortRange is where the operator takes NodePorts from, a part of the API server's
	// --service-node-port-range. Empty: the API server allocates them.
	NodePortRange plan.NodePortRange
	// AdoptionLead is how long before a Service is adopted its EndpointSlices are written, so that
	// they are on every node by then. Default 2 s.
	AdoptionLead time.Duration
	// AdoptionGrace is how long after a Service was adopted the EndpointSlices of its former
	// controller are removed. Default 30 s.
	AdoptionGrace time.Duration
	// ExternalRanges hold the addresses outside the cluster that external groups may lead to. Empty:
	// none.
	ExternalRanges []netip.Prefix
	// Budgets bound what one ServiceGroup may cost. Default: plan.DefaultBudgets.
	Budgets plan.Budgets
	// Probe tunes how those are watched.
	Probe probe.Options
	// NamespaceWriteQPS is how many writes a second the ServiceGroups of one namespace may cause, and
	// NamespaceWriteBurst how many at once. Default 100 and 2000.
	NamespaceWriteQPS   float64
	NamespaceWriteBurst int
	// EndpointUpdatesBatchPeriod is how long changes of pods are gathered before the EndpointSlices are
	// written. Default 0: they are written at once.
	EndpointUpdatesBatchPeriod time.Duration
	// Clock is for tests. Default: the real one.
	Clock clock.PassiveClock
}

func (o Options) withDefaults() Options {
	if o.Concurrency == 0 {
		o.Concurrency = 16
	}
	if o.CountRefresh == 0 {
		o.CountRefresh = 10 * time.Second
	}
	if o.RetryMin == 0 {
		o.RetryMin = 5 * time.Second
	}
	if o.RetryMax == 0 {
		o.RetryMax = max(5*time.Minute, o.RetryMin)
	}
	if o.AdoptionLead == 0 {
		o.AdoptionLead = 2 * time.Second
	}
	if o.AdoptionGrace == 0 {
		o.AdoptionGrace = 30 * time.Second
	}
	if o.Budgets == (plan.Budgets{}) {
		o.Budgets = plan.DefaultBudgets
	}
	if o.NamespaceWriteQPS == 0 {
		o.NamespaceWriteQPS = 100
	}
	if o.NamespaceWriteBurst == 0 {
		o.NamespaceWriteBurst = 2000
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	o.Probe.Allowed = func(address netip.Addr) bool { return plan.AllowedExternal(address, o.ExternalRanges) }
	return o
}

// Validate returns what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case o.Concurrency < 0:
		return fmt.Errorf("concurrency %d: must be at least 1", o.Concurrency)
	case o.CountRefresh < 0:
		return fmt.Errorf("count refresh %s: must not be negative", o.CountRefresh)
	case o.RetryMin < 0 || o.RetryMax < 0:
		return fmt.Errorf("retry from %s to %s: must not be negative", o.RetryMin, o.RetryMax)
	case o.RetryMax != 0 && o.RetryMax < o.RetryMin:
		return fmt.Errorf("retry from %s to %s: the first must not exceed the second", o.RetryMin, o.RetryMax)
	case !(o.NamespaceWriteQPS >= 0 && o.NamespaceWriteQPS <= maxWriteQPS):
		return fmt.Errorf("writes per second and namespace %v: must be between 0 and %d; 0 is the default", o.NamespaceWriteQPS, maxWriteQPS)
	case o.NamespaceWriteBurst != 0 && o.NamespaceWriteBurst < minWriteBurst:
		return fmt.Errorf("writes at once per namespace %d: must be at least %d, since one change may take several in a row; 0 is the default", o.NamespaceWriteBurst, minWriteBurst)
	case o.EndpointUpdatesBatchPeriod < 0:
		return fmt.Errorf("batch period of endpoint updates %s: must not be negative; 0 writes them at once", o.EndpointUpdatesBatchPeriod)
	}
	if o.Budgets != (plan.Budgets{}) {
		if err := o.Budgets.Validate(); err != nil {
			return err
		}
	}
	return o.Probe.Validate()
}

// Setup adds the controller to a manager whose cache was built with CacheOptions.
func Setup(ctx context.Context, mgr manager.Manager, options Options) error {
	if err := options.Validate(); err != nil {
		return fmt.Errorf("checking the options of the controller: %w", err)
	}
	options = options.withDefaults()
	if err := addIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	pods, err := newPodLister(ctx, mgr.GetCache())
	if err != nil {
		return err
	}
	recorder, err := newRecorder(mgr)
	if err != nil {
		return err
	}
	r := newReconciler(mgr, pods, recorder, options)
	cache := mgr.GetCache()
	b := builder.ControllerManagedBy(mgr).Named(controllerName).
		For(&v1alpha1.ServiceGroup{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, adoptionChanged(), statusEdited(r.reports)))).
		WatchesRawSource(source.Kind(cache, &corev1.Service{}, serviceHandler(r.writes))).
		WatchesRawSource(source.Kind(cache, &discoveryv1.EndpointSlice{}, sliceHandler(r.tracker, r.writes, r.lag))).
		WatchesRawSource(source.Kind(cache, revisionMeta(), revisionHandler(r.specs))).
		WatchesRawSource(source.Kind(cache, &corev1.Pod{}, podHandler(r.index, options.EndpointUpdatesBatchPeriod))).
		WatchesRawSource(source.Kind(cache, &corev1.Node{}, nodeHandler(mgr.GetClient(), r.index))).
		WatchesRawSource(probeSource(r.prober)).
		WithOptions(controller.Options{MaxConcurrentReconciles: options.Concurrency, NewQueue: newQueue(options.Concurrency)})
	if r.agents != nil {
		b = b.WatchesRawSource(source.Kind(cache, &coordinationv1.Lease{}, r.agents.leaseHandler())).
			WatchesRawSource(source.Kind(cache, &discoveryv1.EndpointSlice{}, r.agents.removalHandler())).
			WatchesRawSource(r.agents.expirySource())
	}
	if err := b.Complete(r); err != nil {
		return fmt.Errorf("building the controller: %w", err)
	}
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		select {
		case <-time.After(startUp):
			debug.FreeOSMemory() // the first lists leave half as much garbage behind as the caches hold
		case <-ctx.Done():
		}
		return nil
	}))
}

// newQueue makes the queue in which namespaces take turns.
func newQueue(workers int) func(string, workqueue.TypedRateLimiter[reconcile.Request]) queue {
	return func(name string, limiter workqueue.TypedRateLimiter[reconcile.Request]) queue {
		return fairqueue.New(fairqueue.Options{Name: name, Workers: workers, RateLimiter: limiter})
	}
}

func newReconciler(mgr manager.Manager, pods podLister, recorder events.EventRecorder, options Options) *Reconciler {
	limits := writelimit.New(options.NamespaceWriteQPS, options.NamespaceWriteBurst, options.Clock.Now)
	r := &Reconciler{
		client:  writelimit.Wrap(mgr.GetClient(), limits),
		live:    mgr.GetAPIReader(),
		pods:    pods,
		events:  recorder,
		tracker: endpointsliceutil.NewEndpointSliceTracker(),
		trigger: endpointsliceutil.NewTriggerTimeTracker(),
		index:   newPodIndex(),
		prober:  probe.New(options.Probe),

		limits:    limits,
		writes:    newWrites(),
		lag:       newSliceLag(options.Clock),
		specs:     newSpecs(options.Budgets),
		tries:     newTries(options),
		adoptions: newPerGroup[adoption](),
		exposed:   newPerGroup[exposedGroups](),
		settled:   newPerGroup[plan.Memo](),
		reports:   newReports(),
		faults:    newFaults(options.Clock),
		options:   options,
	}
	if options.LeaseNamespace != "" {
		r.agents = newAgents(options.Clock)
	}
	return r
}

// Fields of the caches' own indexes.
const (
	fieldNode    = "spec.nodeName"
	fieldBucket  = "bucket"
	fieldService = "service"
	fieldGroup   = "group"
	// fieldRevision is the ServiceGroup that a ControllerRevision belongs to.
	fieldRevision = "revision"
)

func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &corev1.Pod{}, fieldNode, func(o client.Object) []string {
		return []string{o.(*corev1.Pod).Spec.NodeName}
	})
	if err != nil {
		return fmt.Errorf("indexing pods by node: %w", err)
	}
	err = indexer.IndexField(ctx, &corev1.Service{}, fieldGroup, func(o client.Object) []string {
		if name := o.GetLabels()[v1alpha1.LabelServiceGroup]; name != o.GetName() {
			return []string{name} // the Service of one of its groups
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("indexing Services by ServiceGroup: %w", err)
	}
	err = indexer.IndexField(ctx, revisionMeta(), fieldRevision, func(o client.Object) []string {
		if group := revisionGroup(o); group != "" {
			return []string{group}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("indexing ControllerRevisions by ServiceGroup: %w", err)
	}
	err = indexer.IndexField(ctx, &discoveryv1.EndpointSlice{}, fieldService, func(o client.Object) []string {
		return sliceServices(o.(*discoveryv1.EndpointSlice))
	})
	if err != nil {
		return fmt.Errorf("indexing EndpointSlices by Service: %w", err)
	}
	return nil
}
