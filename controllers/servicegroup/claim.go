package servicegroup

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// claim is an address or number that a spec asks for and the API server does not give.
type claim struct {
	reason string
	field  string
	value  string
	cause  string
	remedy string
	// taken reports whether another Service may hold it.
	taken  bool
	holder func(claimed) types.NamespacedName
}

var clusterIPCause = regexp.MustCompile(`failed to allocate IP ([0-9a-fA-F.:]+): (.*)$`)

// healthCheckCause is how the API server refuses a healthCheckNodePort: as an internal error, with
// no cause in its details (registry/core/service/storage/alloc.go, Kubernetes 1.37).
var healthCheckCause = regexp.MustCompile(`failed to allocate requested HealthCheck NodePort (\d+): (.*)$`)

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
		holder: func(known claimed) types.NamespacedName { return known.nodePorts[number] },
	}
	// The index in the cause is that of the Service's ports, which has an order of its own.
	for i := range sg.Spec.Ports {
		if sg.Spec.Ports[i].NodePort == number {
			c.field = fmt.Sprintf("spec.ports[%d].nodePort", i)
		}
	}
	return c, true
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
	c.holder = func(known claimed) types.NamespacedName { return known.addresses[c.value] }
	return c
}

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

func healthCheckClaim(number int32, cause string) claim {
	return claim{
		field: "spec.healthCheckNodePort", value: strconv.Itoa(int(number)), cause: cause,
		remedy: "choose another number, or remove healthCheckNodePort to get a free one",
		taken:  strings.Contains(cause, "already allocated"),
		holder: func(known claimed) types.NamespacedName { return known.nodePorts[number] },
	}
}
