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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// holderPage bounds one answer of the list of all Services.
const holderPage = 500

// predecessors says that the Service is still that of a deleted ServiceGroup of the same name.
func predecessors(svc *corev1.Service) plan.Refusal {
	return plan.Refusal{
		Reason: v1alpha1.ReasonNameTaken,
		Message: fmt.Sprintf("metadata.name: %s: the Service of a deleted ServiceGroup of this name still exists; "+
			"nothing to do if the garbage collector is about to remove it, otherwise delete Service %s", svc.Name, svc.Name),
	}
}

// refusalOf translates what the API server answered to our Service into a condition. An answer that
// does not blame the Service is a passing fault and is returned.
func (r *Reconciler) refusalOf(ctx context.Context, sg *v1alpha1.ServiceGroup, err error) (*plan.Refusal, error) {
	if refusal := nodePortRefusal(err); refusal != nil {
		return refusal, nil
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil, err
	}
	if number, cause, ok := healthCheckRefused(err); ok {
		return r.explainHealthCheck(ctx, sg, number, cause)
	}
	switch {
	case apierrors.IsInvalid(err):
		return r.explain(ctx, sg, status.Status())
	case apierrors.IsForbidden(err) || apierrors.IsBadRequest(err):
		return &plan.Refusal{
			Reason:  v1alpha1.ReasonRefused,
			Message: fmt.Sprintf("the API server refuses the Service: %s; ask who runs the cluster", status.Status().Message),
		}, nil
	}
	return nil, err
}

// claim is an address or number that a spec asks for and the API server does not give.
type claim struct {
	reason string
	field  string
	value  string
	cause  string
	remedy string
	// taken says that another Service may hold it.
	taken bool
	holds func(*corev1.Service) bool
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

func (r *Reconciler) sentence(ctx context.Context, sg *v1alpha1.ServiceGroup, c claim) (string, error) {
	cause := c.cause
	if c.taken {
		holder, err := r.findHolder(ctx, sg, c.holds)
		if err != nil {
			return "", err
		}
		cause = "already held by Service " + holder
		if holder == "" {
			cause = "already held, by a Service that is just going or by an allocation the cluster has not cleaned up yet"
		}
	}
	return fmt.Sprintf("%s: %s: %s; %s", c.field, c.value, cause, c.remedy), nil
}

// findHolder asks the API server for the Service that holds something. It reads all Services, which
// is why it runs only after a refusal and why refusals are remembered.
func (r *Reconciler) findHolder(ctx context.Context, sg *v1alpha1.ServiceGroup, holds func(*corev1.Service) bool) (string, error) {
	page := &corev1.ServiceList{}
	for {
		if err := r.live.List(ctx, page, client.Limit(holderPage), client.Continue(page.Continue)); err != nil {
			return "", fmt.Errorf("looking for the holder among all Services: %w", err)
		}
		for i := range page.Items {
			svc := &page.Items[i]
			if holds(svc) && client.ObjectKeyFromObject(svc) != client.ObjectKeyFromObject(sg) {
				return svc.Namespace + "/" + svc.Name, nil
			}
		}
		if page.Continue == "" {
			return "", nil
		}
	}
}

// The API server names the value only in the text: Invalid value: 30001: provided port is ...
var (
	nodePortCause  = regexp.MustCompile(`^Invalid value: (\d+): (.*)$`)
	clusterIPCause = regexp.MustCompile(`failed to allocate IP ([0-9a-fA-F.:]+): (.*)$`)
)

// claimOf recognises the causes that speak of a nodePort or a cluster IP.
func claimOf(sg *v1alpha1.ServiceGroup, cause metav1.StatusCause) (claim, bool) {
	switch {
	case strings.HasSuffix(cause.Field, ".nodePort"):
		return nodePortClaim(sg, cause)
	case strings.HasPrefix(cause.Field, "spec.clusterIP"):
		return clusterIPClaim(sg, cause), true
	}
	return claim{}, false
}

func nodePortClaim(sg *v1alpha1.ServiceGroup, cause metav1.StatusCause) (claim, bool) {
	number, why, ok := nodePortOf(cause)
	if !ok {
		return claim{}, false
	}
	c := claim{
		reason: v1alpha1.ReasonNodePortUnavailable, field: cause.Field, value: strconv.Itoa(int(number)), cause: why,
		taken:  strings.Contains(why, "already allocated"),
		remedy: "choose another number, or remove nodePort to get a free one",
		holds:  func(svc *corev1.Service) bool { return holdsNodePort(svc, number) },
	}
	// The index in the cause is that of the Service's ports, which has an order of its own.
	for i := range sg.Spec.Ports {
		if sg.Spec.Ports[i].NodePort == number {
			c.field = fmt.Sprintf("spec.ports[%d].nodePort", i)
		}
	}
	return c, true
}

func holdsNodePort(svc *corev1.Service, number int32) bool {
	return svc.Spec.HealthCheckNodePort == number ||
		slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == number })
}

func clusterIPClaim(sg *v1alpha1.ServiceGroup, cause metav1.StatusCause) claim {
	c := claim{
		reason: v1alpha1.ReasonClusterIPUnavailable, field: "spec.clusterIP", value: sg.Spec.ClusterIP, cause: cause.Message,
		remedy: "choose another address of the cluster's Service range, or remove the field to get a free one",
	}
	if len(sg.Spec.ClusterIPs) > 0 {
		c.field, c.value = "spec.clusterIPs", strings.Join(sg.Spec.ClusterIPs, ",")
	}
	if found := clusterIPCause.FindStringSubmatch(cause.Message); found != nil {
		c.value, c.cause = found[1], found[2]
	}
	if strings.Contains(cause.Message, "may not change once set") {
		c.cause = "the address of a Service cannot change"
		c.remedy = "restore " + strings.Join(sg.Status.ClusterIPs, ",") + ", or delete the ServiceGroup and create it anew"
	}
	c.taken = strings.Contains(c.cause, "already allocated")
	c.holds = func(svc *corev1.Service) bool { return slices.Contains(svc.Spec.ClusterIPs, c.value) }
	return c
}
