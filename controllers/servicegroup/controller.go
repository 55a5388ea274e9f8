package servicegroup

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	endpointsliceutil "k8s.io/endpointslice/util"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
	"github.com/servicegroup-dev/servicegroup/internal/probe"
	"github.com/servicegroup-dev/servicegroup/internal/writelimit"
)

const (
	// conflictWait is how long to let the caches catch up after a write lost a race. It is no error:
	// somebody else wrote first, and the event of that write is on its way.
	conflictWait = 100 * time.Millisecond
	// maxTurns bounds the turns of one reconciliation. An adoption takes five; every number that others
	// hold costs one more.
	maxTurns = 20
)

// errUnsettled says that every turn found something else to do.
var errUnsettled = errors.New("what was written is changed again each time")

// Reconciler brings the objects of one ServiceGroup in line with its spec and its pods.
type Reconciler struct {
	client  client.Client
	live    client.Reader
	pods    podLister
	events  events.EventRecorder
	tracker *endpointsliceutil.EndpointSliceTracker
	trigger *endpointsliceutil.TriggerTimeTracker
	index   *podIndex
	prober  *probe.Prober
	// agents is nil where nobody asks them what they have programmed.
	agents *agents
	claims claims

	limits    *writelimit.Limits
	writes    *writes
	lag       *sliceLag
	specs     *specs
	tries     *tries
	adoptions *perGroup[adoption]
	exposed   *perGroup[exposedGroups]
	settled   *perGroup[plan.Memo]
	reports   *reports
	faults    *faults
	options   Options
}

// Reconcile goes through the stages of the package comment until there is nothing left whose answer
// decides what comes next. A mistake of the user ends in a condition; an error is a passing fault, to
// be tried again with backoff.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	for range maxTurns {
		result, again, err := r.turn(ctx, req.NamespacedName)
		var exhausted *writelimit.Exhausted
		switch {
		case errors.As(err, &exhausted): // what was written stands, and the rest follows from it
			log.FromContext(ctx).V(1).Info("The namespace writes more than its share", "cause", exhausted.Error())
			return reconcile.Result{RequeueAfter: exhausted.RetryAfter}, nil
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return reconcile.Result{}, nil
		case errors.Is(err, errReleasing):
			return reconcile.Result{RequeueAfter: conflictWait}, nil
		case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
			r.lostRace(req.NamespacedName)
			log.FromContext(ctx).V(1).Info("Lost a race, trying again", "cause", err.Error())
			return reconcile.Result{RequeueAfter: conflictWait}, r.reportFault(ctx, req.NamespacedName, err)
		case err != nil:
			return reconcile.Result{}, errors.Join(err, r.reportFault(ctx, req.NamespacedName, err))
		case !again:
			r.faults.known.forget(req.NamespacedName)
			return result, nil
		}
	}
	return reconcile.Result{RequeueAfter: conflictWait}, r.reportFault(ctx, req.NamespacedName, errUnsettled)
}

// turn goes once through the stages, and reports whether another turn is to follow at once.
func (r *Reconciler) turn(ctx context.Context, key types.NamespacedName) (reconcile.Result, bool, error) {
	if err := r.limits.Check(key.Namespace); err != nil {
		return reconcile.Result{}, false, err
	}
	snapshot, err := r.observe(ctx, key)
	if err != nil || snapshot == nil {
		return reconcile.Result{}, false, err
	}
	planned, err := plan.Compute(snapshot)
	if err != nil {
		return reconcile.Result{}, false, err
	}
	for i, memo := range planned.Memos {
		r.settled.with(serviceKey(key, snapshot.Targets()[i].Group), func(m *plan.Memo) { *m = memo })
	}
	wait, again, err := r.apply(ctx, snapshot, &planned)
	// What can wait comes after what changed.
	return reconcile.Result{RequeueAfter: wait, Priority: ptr.To(handler.LowPriority)}, again, err
}

// sooner is the shorter of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// lostRace has the Services of a ServiceGroup looked for at the API server the next time.
func (r *Reconciler) lostRace(key types.NamespacedName) {
	r.writes.lostRace(key)
	for _, group := range r.exposedGroups(key) {
		r.writes.lostRace(serviceKey(key, group))
	}
}

// getGroup gets a ServiceGroup; nil if it is gone or going.
func (r *Reconciler) getGroup(ctx context.Context, key types.NamespacedName) (*v1alpha1.ServiceGroup, error) {
	sg := &v1alpha1.ServiceGroup{}
	if err := r.client.Get(ctx, key, sg); err != nil {
		if !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("getting ServiceGroup: %w", err)
		}
		if err := r.abandonForeign(ctx, key); err != nil {
			return nil, err
		}
		r.forget(key)
		return nil, nil
	}
	sg = r.writes.latestGroup(key, sg)
	if !sg.DeletionTimestamp.IsZero() {
		return nil, nil // the garbage collector is at work
	}
	return sg, nil
}

// forget drops everything known of a ServiceGroup that is gone.
func (r *Reconciler) forget(key types.NamespacedName) {
	for _, group := range r.exposedGroups(key) {
		r.forgetExposed(key, group)
	}
	r.forgetService(key, key.Name)
	r.index.set(key, nil)
	r.prober.Forget(key)
	r.writes.groups.forget(key)
	r.specs.known.forget(key)
	r.tries.known.forget(key)
	r.adoptions.forget(key)
	r.exposed.forget(key)
	r.reports.known.forget(key)
	r.faults.known.forget(key)
	if r.agents != nil {
		r.agents.forget(key)
	}
}

// forgetService drops what is known of a Service that is gone.
func (r *Reconciler) forgetService(key types.NamespacedName, name string) {
	r.writes.services.forget(key)
	r.lag.known.forget(key)
	r.settled.forget(key)
	r.tracker.DeleteService(key.Namespace, name)
	r.trigger.DeleteService(key.Namespace, name)
}
