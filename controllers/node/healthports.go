package node

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// healthChecks listens on the health-check NodePorts of all Services. A port that cannot be listened on, since
// another proxy or process of the node still has it, is tried again until it can.
type healthChecks struct {
	log logr.Logger
	// healthy reports whether the node itself may be sent to.
	healthy func() bool
	// waiting counts what cannot be listened on yet.
	waiting prometheus.Gauge

	mu sync.Mutex
	// addresses are where to listen; the zero address is all of them.
	addresses []netip.Addr
	wanted    map[types.NamespacedName]*healthCheck
	servers   map[netip.AddrPort]*healthServer
	// told are the sockets whose failure was logged.
	told    map[netip.AddrPort]struct{}
	retry   *time.Timer
	backoff wait.Backoff
	closed  bool
}

// healthServer is what listens on an address and port.
type healthServer struct {
	check    *healthCheck
	listener net.Listener
	http     http.Server
}

// close gives the port up at once, also where serving has not begun.
func (s *healthServer) close() {
	_ = s.listener.Close()
	_ = s.http.Close()
}

// retryListening is the pause before a port is tried again: 50 ms, doubling up to 5 s.
func retryListening() wait.Backoff {
	return wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 8, Cap: 5 * time.Second}
}

func newHealthChecks(healthy func() bool, waiting prometheus.Gauge, log logr.Logger) *healthChecks {
	return &healthChecks{
		log: log, healthy: healthy, waiting: waiting,
		wanted: map[types.NamespacedName]*healthCheck{}, servers: map[netip.AddrPort]*healthServer{},
		told: map[netip.AddrPort]struct{}{}, backoff: retryListening(),
	}
}

// set makes these Services answer on their ports, at these addresses of the node, how many ready endpoints there
// are here. A Service that is nil or has no port answers no more.
func (h *healthChecks) set(services map[types.NamespacedName]*proxy.Service, addresses []netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed := !slices.Equal(addresses, h.addresses)
	h.addresses = addresses
	for name, service := range services {
		check := h.wanted[name]
		if service == nil || service.HealthCheckNodePort <= 0 || service.HealthCheckNodePort > 65535 {
			delete(h.wanted, name)
			changed = changed || check != nil
			continue
		}
		port := uint16(service.HealthCheckNodePort)
		if check == nil || check.port != port {
			check = &healthCheck{name: name, port: port}
			h.wanted[name] = check
			changed = true
		}
		check.local.Store(&service.LocalReady)
	}
	if changed {
		h.backoff = retryListening()
		h.listen()
	}
}

// listen closes what is not wanted any more, so that a port may move between Services, and then opens what is
// missing.
func (h *healthChecks) listen() {
	if h.closed {
		return
	}
	for at, server := range h.servers {
		if h.wanted[server.check.name] != server.check || !slices.Contains(h.addresses, at.Addr()) {
			server.close()
			delete(h.servers, at)
		}
	}
	missing := map[netip.AddrPort]struct{}{}
	for _, check := range h.wanted {
		for _, addr := range h.addresses {
			at := netip.AddrPortFrom(addr, check.port)
			server := h.servers[at]
			if server == nil {
				server = h.open(at, check)
			}
			if server == nil || server.check != check {
				missing[at] = struct{}{}
			}
		}
	}
	h.told = missing // open has logged what is new
	h.waiting.Set(float64(len(missing)))
	if h.retry != nil {
		h.retry.Stop()
		h.retry = nil
	}
	if len(missing) > 0 {
		h.retry = time.AfterFunc(h.backoff.Step(), h.again)
	}
}

func (h *healthChecks) again() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listen()
}

// open listens for a Service; nil if it cannot.
func (h *healthChecks) open(at netip.AddrPort, check *healthCheck) *healthServer {
	host := ""
	if at.Addr().IsValid() {
		host = at.Addr().String()
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(at.Port()))))
	if err != nil {
		if _, told := h.told[at]; !told {
			h.log.Info("A health-check NodePort cannot be listened on; it is tried again until it can", "service", check.name, "reason", err.Error())
		}
		return nil
	}
	server := &healthServer{check: check, listener: listener}
	server.http.ReadHeaderTimeout = 10 * time.Second
	server.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { check.answer(w, r, h.healthy()) })
	h.servers[at] = server
	// Serve returns when the server is closed.
	go func() { _ = server.http.Serve(listener) }()
	return server
}

func (h *healthChecks) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.retry != nil {
		h.retry.Stop()
	}
	for _, server := range h.servers {
		server.close()
	}
}
