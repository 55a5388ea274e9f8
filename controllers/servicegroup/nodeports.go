package servicegroup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

const (
	// maxNodePortTries bounds how often one reconciliation offers the API server other numbers. After
	// the first refusal all held numbers are known, so more than two tries mean that others are
	// allocating at the same moment.
	maxNodePortTries = 10
	// nodePortViewAge is how old the knowledge of others' NodePorts may be: with many ServiceGroups
	// created at once, one list of all Services serves those that meet a held number.
	nodePortViewAge = 2 * time.Second
)

// nodePortView is who holds which number, as far as the API server was asked.
//
// Nobody is asked before the API server has refused a number. It knows every holder, without a delay,
// and refuses in memory; to know as much beforehand the manager would have to watch every Service of
// the cluster, for the sake of the few whose first probe meets a held number. And a cache would lag:
// a ServiceGroup deleted and created anew would see its own old Service on its number, and move.
type nodePortView struct {
	mu      sync.Mutex
	holders map[int32]string
	asked   time.Time
}

// writeNumbered writes the Service with a NodePort for every port that needs one. When the API server
// does not give a number of our choice, it offers the next one.
func (r *Reconciler) writeNumbered(ctx context.Context, sg *v1alpha1.ServiceGroup, live *corev1.Service, diff plan.ServiceDiff) (*corev1.Service, error) {
	request := plan.NodePortRequest{Group: sg, Live: live, Range: r.options.NodePortRange, Refused: map[int32]bool{}}
	for try := 1; ; try++ {
		numbered, err := plan.NodePorts(request)
		if err != nil {
			return nil, err
		}
		svc, err := r.createOrUpdate(ctx, numbered, live, diff)
		number, why := refusedNodePort(err)
		if number == 0 || !chosen(sg, numbered, number) {
			if err == nil && try > 1 {
				r.recordMovedPorts(sg, svc)
			}
			return svc, err
		}
		if !strings.Contains(why, "already allocated") {
			return nil, &nodePortOutsideError{flag: r.options.NodePortRange, number: number, why: why}
		}
		if live == nil && remembersNodePort(&sg.Status, number) && r.memory.releasing(client.ObjectKeyFromObject(sg)) {
			return nil, errReleasing
		}
		request.Refused[number] = true
		if request.Taken, err = r.nodePorts.since(ctx, r, sg, try > 1); err != nil {
			return nil, err
		}
		log.FromContext(ctx).V(1).Info("A NodePort is held by another Service, trying the next", "nodePort", number, "holder", request.Taken[number])
		if try == maxNodePortTries {
			return nil, &nodePortsContestedError{number: number, holder: request.Taken[number]}
		}
	}
}

func remembersNodePort(status *v1alpha1.ServiceGroupStatus, number int32) bool {
	return slices.ContainsFunc(plan.RememberedPorts(status), func(p v1alpha1.PortStatus) bool { return p.NodePort == number })
}

// numbered is the ServiceGroup with the NodePorts that it should have, to compare the Service with.
func (r *Reconciler) numbered(sg *v1alpha1.ServiceGroup, live *corev1.Service) *v1alpha1.ServiceGroup {
	out, err := plan.NodePorts(plan.NodePortRequest{Group: sg, Live: live, Range: r.options.NodePortRange})
	if err != nil {
		return sg // without numbers it differs from the Service, and writing it tells why
	}
	return out
}

// recordMovedPorts records that a Service that was gone came back with other NodePorts.
func (r *Reconciler) recordMovedPorts(sg *v1alpha1.ServiceGroup, svc *corev1.Service) {
	moved := slices.ContainsFunc(sg.Status.Ports, func(before v1alpha1.PortStatus) bool {
		return before.NodePort != 0 && slices.ContainsFunc(svc.Spec.Ports, func(now corev1.ServicePort) bool {
			return now.Port == before.Port && now.Protocol == before.Protocol && now.NodePort != before.NodePort
		})
	})
	if moved && slices.Equal(sg.Status.ClusterIPs, svc.Spec.ClusterIPs) { // else it is recorded already
		r.recordNewAddresses(sg, svc)
	}
}

// refusedNodePort is the first number that an answer of the API server refuses, and why; 0 is none.
func refusedNodePort(err error) (number int32, why string) {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return 0, ""
	}
	for _, cause := range status.Status().Details.Causes {
		if number, why, ok := nodePortOf(cause); ok {
			return number, why
		}
	}
	return 0, ""
}

// nodePortOf reads the number and what is wrong with it from a cause, which has both in its text only.
func nodePortOf(cause metav1.StatusCause) (number int32, why string, ok bool) {
	found := nodePortCause.FindStringSubmatch(cause.Message)
	if found == nil || !strings.HasSuffix(cause.Field, ".nodePort") {
		return 0, "", false
	}
	parsed, err := strconv.ParseInt(found[1], 10, 32)
	return int32(parsed), found[2], err == nil
}

// chosen says whether a number is one that we chose, not the user.
func chosen(sg, numbered *v1alpha1.ServiceGroup, number int32) bool {
	ours := false
	for i := range numbered.Spec.Ports {
		if numbered.Spec.Ports[i].NodePort != number {
			continue
		}
		if sg.Spec.Ports[i].NodePort == number {
			return false
		}
		ours = true
	}
	return ours
}

// since returns the holders of all numbers, asked anew if what is known is old or proved to be.
func (v *nodePortView) since(ctx context.Context, r *Reconciler, sg *v1alpha1.ServiceGroup, anew bool) (map[int32]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if now := r.options.Clock.Now(); anew || now.Sub(v.asked) >= nodePortViewAge {
		holders, err := r.listNodePorts(ctx)
		if err != nil {
			return nil, err
		}
		v.holders, v.asked = holders, now
	}
	own := client.ObjectKeyFromObject(sg).String()
	others := maps.Clone(v.holders)
	maps.DeleteFunc(others, func(_ int32, holder string) bool { return holder == own })
	return others, nil
}

// listNodePorts asks the API server for the NodePorts of all Services.
func (r *Reconciler) listNodePorts(ctx context.Context) (map[int32]string, error) {
	holders := map[int32]string{}
	page := &corev1.ServiceList{}
	for {
		if err := r.live.List(ctx, page, client.Limit(holderPage), client.Continue(page.Continue)); err != nil {
			return nil, fmt.Errorf("listing the NodePorts of all Services: %w", err)
		}
		for i := range page.Items {
			svc := &page.Items[i]
			name := client.ObjectKeyFromObject(svc).String()
			if svc.Spec.HealthCheckNodePort != 0 {
				holders[svc.Spec.HealthCheckNodePort] = name
			}
			for _, port := range svc.Spec.Ports {
				if port.NodePort != 0 {
					holders[port.NodePort] = name
				}
			}
		}
		if page.Continue == "" {
			return holders, nil
		}
	}
}

// nodePortsContestedError says that others took one number after the other while we asked for them.
type nodePortsContestedError struct {
	number int32
	holder string
}

func (e *nodePortsContestedError) Error() string {
	holder := "somebody whom the API server does not name"
	if e.holder != "" {
		holder = "Service " + e.holder
	}
	return fmt.Sprintf("NodePort %d, the last of %d that were tried, is held by %s", e.number, maxNodePortTries, holder)
}

// nodePortOutsideError says that the flag names numbers that the API server does not give.
type nodePortOutsideError struct {
	flag   plan.NodePortRange
	number int32
	why    string
}

func (e *nodePortOutsideError) Error() string {
	return fmt.Sprintf("NodePort %d of the manager's --node-port-range=%s: %s", e.number, e.flag, e.why)
}

// nodePortRefusal translates what the allocator found into a condition.
func nodePortRefusal(err error) *plan.Refusal {
	var full *plan.NodePortsFullError
	var contested *nodePortsContestedError
	var outside *nodePortOutsideError
	switch {
	case errors.As(err, &full):
		return &plan.Refusal{Reason: v1alpha1.ReasonNodePortUnavailable, Message: full.Error()}
	case errors.As(err, &outside):
		return &plan.Refusal{
			Reason:  v1alpha1.ReasonNodePortUnavailable,
			Message: "spec.ports: " + outside.Error() + "; ask who runs the cluster to make the range a part of the API server's, or name a nodePort",
		}
	case errors.As(err, &contested):
		return &plan.Refusal{
			Reason:  v1alpha1.ReasonNodePortUnavailable,
			Message: "spec.ports: " + contested.Error() + "; others allocate at the same moment, it is tried again; if that lasts, give ServiceGroups a --node-port-range of their own",
		}
	}
	return nil
}
