package servicegroup

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// conflictWait is how long to let the caches catch up after a write lost a race. It is no error:
// somebody else wrote first, and the event of that write is on its way.
const conflictWait = 100 * time.Millisecond

// Reconciler brings the objects of one ServiceGroup in line with its spec and its pods.
type Reconciler struct {
	client  client.Client
	writes  *writelimit.Limits
	live    client.Reader
	pods    podLister
	events  events.EventRecorder
	planner slicePlanner
	tracker *endpointsliceutil.EndpointSliceTracker
	trigger *endpointsliceutil.TriggerTimeTracker
	index   *podIndex
	memory  *memory
	prober  *probe.Prober
	// agents is nil where nobody asks them what they have programmed.
	agents    *agents
	nodePorts nodePortView
	options   Options
}

// Reconcile runs the steps of the package comment for one ServiceGroup. A mistake of the user ends
// in a condition; an error is a passing fault, to be tried again with backoff.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	sg := &v1alpha1.ServiceGroup{}
	if err := r.client.Get(ctx, req.NamespacedName, sg); err != nil {
		if apierrors.IsNotFound(err) {
			if err := r.abandonForeign(ctx, req.NamespacedName); err != nil {
				return reconcile.Result{}, err
			}
			r.forget(req)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("getting ServiceGroup: %w", err)
	}
	sg = r.memory.latestGroup(req.NamespacedName, sg)
	if !sg.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil // the garbage collector is at work
	}
	result, err := reconcile.Result{}, r.writes.Check(req.Namespace)
	if err == nil {
		result, err = r.reconcile(ctx, sg)
	}
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
		r.memory.lostRace(req.NamespacedName)
		log.FromContext(ctx).V(1).Info("Lost a race, trying again", "cause", err.Error())
		return reconcile.Result{RequeueAfter: conflictWait}, nil
	}
	return result, err
}

func (r *Reconciler) reconcile(ctx context.Context, sg *v1alpha1.ServiceGroup) (reconcile.Result, error) {
	state, err := r.reconcileService(ctx, sg)
	if err != nil || state.pending > 0 {
		return reconcile.Result{RequeueAfter: state.pending}, err
	}
	outcome := plan.Outcome{Group: sg, Problems: state.problems, Refusal: state.refusal, Service: state.service}
	if state.service == nil {
		r.index.set(client.ObjectKeyFromObject(sg), nil)
		r.prober.Forget(client.ObjectKeyFromObject(sg))
	} else {
		outcome.Served, outcome.Unreadable = plan.ServedBy(state.service)
	}
	var exposed exposedState
	// If somebody removed the record of what is served while the spec is refused (or else it would
	// have been restored), the slices stay as they are: there is nothing to build them from.
	if state.service != nil && outcome.Unreadable == nil {
		var fault error // of one part; it does not keep the others
		exposed, fault = r.reconcileExposed(ctx, sg, state.service, outcome.Served)
		endpoints, err := r.reconcileEndpoints(ctx, state.service, outcome.Served, exposed.targets...)
		if err = errors.Join(fault, err); err != nil {
			return reconcile.Result{}, err
		}
		if endpoints.stale {
			return reconcile.Result{RequeueAfter: staleLimit}, nil
		}
		outcome.Members, outcome.Slices, outcome.Unexposed = endpoints.members, endpoints.slices, exposed.refusals
		state.written = state.written || endpoints.written
	}
	if plan.Undecided(outcome) {
		return reconcile.Result{}, nil // the end of the lookup is an event
	}
	outcome.Programming = r.programming(&outcome)
	wait, err := r.reconcileStatus(ctx, sg, plan.Status(outcome), state.written)
	if err != nil {
		return reconcile.Result{}, err
	}
	wait = sooner(wait, r.lookAgain(client.ObjectKeyFromObject(sg)))
	left, err := r.cleanUpAdoption(ctx, sg, state.service)
	return reconcile.Result{
		RequeueAfter: sooner(sooner(state.retryAfter, exposed.retryAfter), sooner(wait, left)),
		Priority:     ptr.To(handler.LowPriority), // what can wait comes after what changed
	}, err
}

// sooner is the shorter of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// forget drops everything known of a ServiceGroup that is gone.
func (r *Reconciler) forget(req reconcile.Request) {
	r.index.set(req.NamespacedName, nil)
	r.prober.Forget(req.NamespacedName)
	for _, group := range r.memory.exposedGroups(req.NamespacedName) {
		r.forgetExposed(req.NamespacedName, group)
	}
	r.memory.forget(req.NamespacedName)
	if r.agents != nil {
		r.agents.forget(req.NamespacedName)
	}
	r.tracker.DeleteService(req.Namespace, req.Name)
	r.trigger.DeleteService(req.Namespace, req.Name)
}
