package node

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// healthCheck answers load balancers, on the health-check NodePort of one Service, whether this node has ready
// endpoints of the address family in which they ask. The answers are kube-proxy's (pkg/proxy/healthcheck).
type healthCheck struct {
	name  types.NamespacedName
	port  uint16
	local atomic.Pointer[proxy.PerFamily]
}

func (c *healthCheck) answer(w http.ResponseWriter, r *http.Request, healthy bool) {
	families := c.local.Load()
	local := families.IPv6
	if to, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok && to.IP.To4() != nil {
		local = families.IPv4
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(local))
	if local == 0 || !healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// The load balancer has gone if this fails.
	_ = json.NewEncoder(w).Encode(map[string]any{
		"service":             map[string]string{"namespace": c.name.Namespace, "name": c.name.Name},
		"localEndpoints":      local,
		"serviceProxyHealthy": healthy,
	})
}
