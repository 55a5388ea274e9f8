package servicegroup

import (
	"context"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// healthCheckCause is how the API server refuses a healthCheckNodePort: as an internal error, with
// no cause in its details (registry/core/service/storage/alloc.go, Kubernetes 1.37).
var healthCheckCause = regexp.MustCompile(`failed to allocate requested HealthCheck NodePort (\d+): (.*)$`)

// healthCheckRefused reads the healthCheckNodePort that the API server does not give, and why.
func healthCheckRefused(err error) (number int32, cause string, refused bool) {
	if err == nil {
		return 0, "", false
	}
	found := healthCheckCause.FindStringSubmatch(err.Error())
	if found == nil {
		return 0, "", false
	}
	parsed, err := strconv.ParseInt(found[1], 10, 32)
	return int32(parsed), found[2], err == nil
}

func (r *Reconciler) explainHealthCheck(ctx context.Context, sg *v1alpha1.ServiceGroup, number int32, cause string) (*plan.Refusal, error) {
	sentence, err := r.sentence(ctx, sg, claim{
		field: "spec.healthCheckNodePort", value: strconv.Itoa(int(number)), cause: cause,
		remedy: "choose another number, or remove healthCheckNodePort to get a free one",
		taken:  strings.Contains(cause, "already allocated"),
		holds:  func(svc *corev1.Service) bool { return holdsNodePort(svc, number) },
	})
	if err != nil {
		return nil, err
	}
	return &plan.Refusal{Reason: v1alpha1.ReasonNodePortUnavailable, Message: sentence}, nil
}
