package node

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// healthChecks answers load balancers, on the health-check NodePort of each Service that has one,
// whether this node has ready endpoints of the address family in which they ask. The answers are
// kube-proxy's (pkg/proxy/healthcheck).
type healthChecks struct {
	// healthy says whether the node itself may be sent to.
	healthy func() bool
	servers map[types.NamespacedName]*healthCheck
}

// healthCheck is the server of one Service.
type healthCheck struct {
	name   types.NamespacedName
	port   int32
	local  atomic.Pointer[proxy.PerFamily]
	server *http.Server
}

func newHealthChecks(healthy func() bool) *healthChecks {
	return &healthChecks{healthy: healthy, servers: map[types.NamespacedName]*healthCheck{}}
}

// set makes a Service answer on port that it has so many ready endpoints here; port 0 ends that.
func (h *healthChecks) set(name types.NamespacedName, port int32, local proxy.PerFamily) error {
	check := h.servers[name]
	if check != nil && check.port != port {
		_ = check.server.Close()
		delete(h.servers, name)
		check = nil
	}
	if port == 0 {
		return nil
	}
	if check == nil {
		var err error
		if check, err = h.listen(name, port); err != nil {
			return err
		}
		h.servers[name] = check
	}
	check.local.Store(&local)
	return nil
}

func (h *healthChecks) listen(name types.NamespacedName, port int32) (*healthCheck, error) {
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(int(port)))
	if err != nil {
		return nil, fmt.Errorf("listening on the health-check NodePort: %w", err)
	}
	check := &healthCheck{name: name, port: port}
	check.local.Store(&proxy.PerFamily{})
	check.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) { check.answer(w, r, h.healthy()) })}
	// Serve returns when the server is closed.
	go func() { _ = check.server.Serve(listener) }()
	return check, nil
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

func (h *healthChecks) close() {
	for _, check := range h.servers {
		_ = check.server.Close()
	}
}
