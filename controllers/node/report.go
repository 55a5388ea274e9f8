package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/kubernetes"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// How often an agent writes its Lease: at once after a change while it has been quiet, once in ten
// seconds while changes go on, and once in a minute for no other reason than to be alive. With 5,000
// nodes that is 83 writes a second when nothing changes and 500 at the most for any length of time; see
// docs/programmed.md.
const (
	reportEvery = 10 * time.Second
	reportBurst = 3
	reportAlive = time.Minute
)

// revisions are the newest resource versions of what the agent serves.
type revisions struct {
	services, slices string
}

// newest returns the newer of two resource versions of one resource; one that is no number, which
// API servers before Kubernetes 1.35 need not promise, does not count.
func newest(a, b string) string {
	if order, err := resourceversion.CompareResourceVersion(a, b); err == nil && order >= 0 {
		return a
	}
	if _, err := resourceversion.CompareResourceVersion(b, b); err != nil {
		return a
	}
	return b
}

func (r revisions) newest(other revisions) revisions {
	return revisions{newest(r.services, other.services), newest(r.slices, other.slices)}
}

// reporter tells the manager, in a Lease of the node's own, what is programmed.
type reporter struct {
	client              kubernetes.Interface
	namespace, nodeName string
	log                 logr.Logger

	mu         sync.Mutex
	programmed revisions
	wake       chan struct{}

	// lease is the Lease as last seen, nil when it is to be read.
	lease *coordinationv1.Lease
}

func newReporter(o *Options) *reporter {
	return &reporter{
		client: o.Client, namespace: o.LeaseNamespace, nodeName: o.NodeName, log: o.Log, wake: make(chan struct{}, 1),
	}
}

// set takes note of what has been committed.
func (r *reporter) set(programmed revisions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.programmed.newest(programmed)
	if next == r.programmed {
		return
	}
	r.programmed = next
	select {
	case r.wake <- struct{}{}:
	default: // a report is due already
	}
}

// run reports until ctx ends. What cannot be reported is served all the same.
func (r *reporter) run(ctx context.Context) {
	limiter := rate.NewLimiter(rate.Every(reportEvery), reportBurst)
	ticker := time.NewTicker(reportAlive)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-ticker.C:
		}
		if limiter.Wait(ctx) != nil {
			return
		}
		if err := r.report(ctx); err != nil && ctx.Err() == nil {
			r.log.Info("Reporting what is programmed failed; it is tried again", "reason", err.Error())
			r.lease = nil
			select {
			case r.wake <- struct{}{}:
			default:
			}
		}
	}
}

func (r *reporter) report(ctx context.Context) error {
	r.mu.Lock()
	programmed := r.programmed
	r.mu.Unlock()
	leases := r.client.CoordinationV1().Leases(r.namespace)
	name := v1alpha1.LeasePrefix + r.nodeName
	if r.lease == nil {
		lease, err := leases.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			lease, err = leases.Create(ctx, r.fill(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}, programmed), metav1.CreateOptions{})
			if err == nil {
				r.lease = lease
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("getting Lease %s/%s: %w", r.namespace, name, err)
		}
		r.lease = lease
	}
	lease, err := leases.Update(ctx, r.fill(r.lease.DeepCopy(), programmed), metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("updating Lease %s/%s: %w", r.namespace, name, err)
	}
	r.lease = lease
	return nil
}

func (r *reporter) fill(lease *coordinationv1.Lease, programmed revisions) *coordinationv1.Lease {
	now := metav1.NewMicroTime(time.Now())
	seconds := int32(3 * reportAlive / time.Second)
	lease.Spec.HolderIdentity, lease.Spec.RenewTime, lease.Spec.LeaseDurationSeconds = &r.nodeName, &now, &seconds
	if lease.Labels == nil {
		lease.Labels = map[string]string{}
	}
	lease.Labels[v1alpha1.LabelAgent] = "true"
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[v1alpha1.AnnotationServices] = programmed.services
	lease.Annotations[v1alpha1.AnnotationEndpointSlices] = programmed.slices
	return lease
}
