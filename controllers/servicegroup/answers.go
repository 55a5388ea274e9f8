package servicegroup

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// maxNodePortTries bounds how many other numbers the API server is offered. After the first refusal all
// held numbers are known, so more than two tries mean that others are allocating at the same moment.
const maxNodePortTries = 10

// errReleasing says that addresses which the entry point had are held, perhaps still by the deleted Service
// that had them: the API server releases them a moment after it is gone.
var errReleasing = errors.New("the addresses of the deleted Service are not released yet")

// answered records why the API server did not take a Service. An answer that does not blame the Service
// is a passing fault and is returned.
func (r *Reconciler) answered(ctx context.Context, s *plan.Snapshot, write *plan.ServiceWrite, err error) error {
	key, a := client.ObjectKeyFromObject(s.Group), attemptOf(s, write.Source)
	number, why := refusedNodePort(err)
	if number != 0 && write.Chosen[number] {
		return r.answeredNodePort(ctx, s, write, number, why)
	}
	_, _, held := healthCheckRefused(err)
	if write.Restored && (held || apierrors.IsInvalid(err)) {
		if r.tries.releasing(key, write.Source, a) {
			return errReleasing
		}
		log.FromContext(ctx).Info("The addresses of before are taken, asking for new ones", "cause", err.Error())
		r.tries.lost(key, write.Source, a)
		return nil
	}
	refusal, err := r.refusalOf(ctx, write, err)
	if err != nil {
		return err
	}
	r.tries.refuse(key, write.Source, a, *refusal)
	return nil
}

// answeredNodePort records that the API server does not give a number of the operator's choice.
func (r *Reconciler) answeredNodePort(ctx context.Context, s *plan.Snapshot, write *plan.ServiceWrite, number int32, why string) error {
	key, a := client.ObjectKeyFromObject(s.Group), attemptOf(s, write.Source)
	refuse := func(format string, args ...any) {
		r.tries.refuse(key, write.Source, a, plan.Refusal{Reason: v1alpha1.ReasonNodePortUnavailable, Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case !strings.Contains(why, "already allocated"):
		refuse("spec.ports: NodePort %d of the manager's --node-port-range=%s: %s; "+
			"ask who runs the cluster to make the range a part of the API server's, or name a nodePort", number, r.options.NodePortRange, why)
	case write.Live == nil && write.Had.Has(number) && r.tries.releasing(key, write.Source, a):
		return errReleasing
	case r.tries.held(key, write.Source, a, number) >= maxNodePortTries:
		refuse("spec.ports: NodePort %d, the last of %d that were tried, is held by another Service; others allocate at the same moment, "+
			"it is tried again; if that lasts, ask who runs the cluster to give ServiceGroups a --node-port-range of their own", number, maxNodePortTries)
	default:
		log.FromContext(ctx).V(1).Info("A NodePort is held by another Service, trying the next", "nodePort", number)
	}
	return nil
}

// refusalOf translates what the API server answered to our Service into a condition.
func (r *Reconciler) refusalOf(ctx context.Context, write *plan.ServiceWrite, err error) (*plan.Refusal, error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil, err
	}
	if number, cause, ok := healthCheckRefused(err); ok {
		sentence, err := r.sentence(ctx, write.Group, healthCheckClaim(number, cause))
		return &plan.Refusal{Reason: v1alpha1.ReasonNodePortUnavailable, Message: sentence}, err
	}
	switch {
	case apierrors.IsInvalid(err):
		return r.explain(ctx, write.Group, status.Status())
	case apierrors.IsForbidden(err) || apierrors.IsBadRequest(err):
		return &plan.Refusal{
			Reason:  v1alpha1.ReasonRefused,
			Message: fmt.Sprintf("the API server refuses the Service: %s; ask who runs the cluster", status.Status().Message),
		}, nil
	}
	return nil, err
}

// explain turns the causes of an Invalid answer into one refusal that names field, value, holder
// and remedy in the words of the ServiceGroup.
func (r *Reconciler) explain(ctx context.Context, sg *v1alpha1.ServiceGroup, status metav1.Status) (*plan.Refusal, error) {
	refusal := &plan.Refusal{Reason: v1alpha1.ReasonRefused}
	var sentences []string
	if status.Details != nil {
		for _, cause := range status.Details.Causes {
			c, ok := claimOf(sg, cause)
			if !ok {
				sentences = append(sentences, fmt.Sprintf("%s: %s; %s", cause.Field, cause.Message, remedyFor(cause.Field)))
				continue
			}
			refusal.Reason = c.reason
			sentence, err := r.sentence(ctx, sg, c)
			if err != nil {
				return nil, err
			}
			sentences = append(sentences, sentence)
		}
	}
	if len(sentences) == 0 {
		sentences = []string{status.Message}
	}
	slices.Sort(sentences)
	refusal.Message = strings.Join(slices.Compact(sentences), ". ")
	return refusal, nil
}

// remedyFor says what to do about a field that the API server refuses without a word on that.
func remedyFor(field string) string {
	if strings.HasPrefix(field, "spec.ipFamil") { // ipFamilies, ipFamilyPolicy
		return "leave it out to get what the cluster has, or ask who runs the cluster to add the family"
	}
	return "correct the field"
}

// sentence tells of a claim. It names a holder in the ServiceGroup's own namespace only: what others
// have is not for everybody who may guess. Who runs the cluster finds them in an event.
func (r *Reconciler) sentence(ctx context.Context, sg *v1alpha1.ServiceGroup, c claim) (string, error) {
	cause := c.cause
	if c.taken {
		known, err := r.claims.list(ctx, r.live, r.options.Clock, false)
		if err != nil {
			return "", err
		}
		switch holder := c.holder(known); {
		case holder == (types.NamespacedName{}) || holder == client.ObjectKeyFromObject(sg):
			cause = "already held, by a Service that is just going or by an allocation the cluster has not cleaned up yet"
		case holder.Namespace == sg.Namespace:
			cause = "already held by Service " + holder.String()
		default:
			cause = "already held in another namespace"
			r.tellAdministrator(sg, c, holder)
		}
	}
	return fmt.Sprintf("%s: %s: %s; %s", c.field, c.value, cause, c.remedy), nil
}

// tellAdministrator records in the manager's namespace which Service of another namespace holds what a
// ServiceGroup asks for.
func (r *Reconciler) tellAdministrator(sg *v1alpha1.ServiceGroup, c claim, holder types.NamespacedName) {
	if r.options.LeaseNamespace == "" {
		return
	}
	manager := &corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: r.options.LeaseNamespace, Namespace: r.options.LeaseNamespace}
	r.events.Eventf(manager, nil, corev1.EventTypeNormal, "HeldElsewhere", "Reconcile", "ServiceGroup %s/%s asks for %s %s, which Service %s holds",
		sg.Namespace, sg.Name, strings.TrimPrefix(c.field, "spec."), c.value, holder)
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

// The API server names the value only in the text: Invalid value: 30001: provided port is ...
var nodePortCause = regexp.MustCompile(`^Invalid value: (\d+): (.*)$`)

// nodePortOf reads the number and what is wrong with it from a cause.
func nodePortOf(cause metav1.StatusCause) (number int32, why string, ok bool) {
	found := nodePortCause.FindStringSubmatch(cause.Message)
	if found == nil || !strings.HasSuffix(cause.Field, ".nodePort") {
		return 0, "", false
	}
	parsed, err := strconv.ParseInt(found[1], 10, 32)
	return int32(parsed), found[2], err == nil
}
