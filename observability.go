package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/spf13/pflag"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/servicegroup-dev/servicegroup/internal/scrape"
)

// observability says who may look into a running manager or agent, and where.
type observability struct {
	metricsAddress string
	metricsSecure  bool
	metricsCertDir string
	pprofAddress   string
}

// addFlags adds the flags; what is set already is their default.
func (o *observability) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.metricsAddress, "metrics-bind-address", o.metricsAddress, "address for /metrics; 0 turns it off")
	flags.BoolVar(&o.metricsSecure, "metrics-secure", true, "serve /metrics over HTTPS to those only whose token the API server knows and whom RBAC allows to get it; false is HTTP for everybody")
	flags.StringVar(&o.metricsCertDir, "metrics-cert-dir", "", "folder with tls.crt and tls.key for /metrics, read again when they change; default: a self-signed certificate made at each start")
	flags.StringVar(&o.pprofAddress, "pprof-bind-address", "0", "address for /debug/pprof, which asks nobody who he is: use 127.0.0.1:6060; 0 turns it off")
}

func (o *observability) metricsOptions() metricsserver.Options {
	options := metricsserver.Options{BindAddress: o.metricsAddress, CertDir: o.metricsCertDir}
	if o.metricsSecure {
		options.SecureServing = true
		options.FilterProvider = scrape.WithReviews
		// Scrapes gain nothing from HTTP/2, whose resets have been used to exhaust servers (CVE-2023-44487).
		options.TLSOpts = []func(*tls.Config){func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }}
	}
	return options
}

func (o *observability) servePprof(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return serve(ctx, o.pprofAddress, mux)
}

// serve answers HTTP on address until ctx ends; address 0 is none.
func serve(ctx context.Context, address string, handler http.Handler) error {
	if address == "0" {
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", address, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	// Serve returns when ctx ends and the server is closed.
	go func() { _ = server.Serve(listener) }()
	return nil
}
