package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestTheNodeMovesFromKubeProxyAndBack goes the way of docs/migration.md on a node under load: kube-proxy
// is stopped, the agent started, kube-proxy's rules removed, and all of it back. No connection fails.
func TestTheNodeMovesFromKubeProxyAndBack(t *testing.T) {
	for _, mode := range []string{"iptables", "nftables"} {
		t.Run(mode, func(t *testing.T) { testMove(t, requireBed(t), mode) })
	}
}

func testMove(t *testing.T, b *bed, mode string) {
	pods := b.pods(t, "moving", 2)
	service := b.serviceOf(t, "moving-"+mode, func(s *corev1.Service) {
		s.Labels, s.Spec.Type = nil, corev1.ServiceTypeNodePort
	}, addresses(pods)...)
	b.labelSlice(t, service.Name, "")
	target := lab.HostPort(b.node.IPv4, service.Spec.Ports[0].NodePort)
	proxy := b.startKubeProxy(t, mode)

	ctx, stop := context.WithCancel(t.Context())
	load := make(chan lab.Tally, 1)
	go func() { load <- b.client.TallyUntil(ctx, "tcp", target) }()
	agent := b.move(t, proxy)
	back := b.startKubeProxy(t, mode)
	err := agent.Stop()
	if _, cleanErr := b.node.Output(t.Context(), agent.Path(), "agent", "cleanup"); err != nil || cleanErr != nil {
		t.Errorf("removing the agent: %v", errors.Join(err, cleanErr))
	}
	b.must(t, target)
	stop()
	if tally := <-load; tally.Failed > 0 || tally.Total() == 0 {
		t.Errorf("%d of %d connections failed, such as %v", tally.Failed, tally.Total(), tally.Errors)
	}
	b.cleanUp(t, back)
}

// move replaces kube-proxy by the agent.
func (b *bed) move(t *testing.T, proxy *lab.Process) *lab.Process {
	t.Helper()
	if err := proxy.Stop(); err != nil {
		t.Errorf("stopping kube-proxy: %v", err)
	}
	agent := b.startAgent(t, "--mode=all")
	b.cleanUp(t, proxy)
	return agent
}

// must asks until the pods have answered some more.
func (b *bed) must(t *testing.T, target string) {
	t.Helper()
	if tally := b.client.Tally(t.Context(), "tcp", target, 200); tally.Failed > 0 {
		t.Errorf("%d of 200 connections failed at the end: %v", tally.Failed, tally.Errors)
	}
}

var synced = regexp.MustCompile(`(?m)^kubeproxy_sync_proxy_rules_last_timestamp_seconds.* [1-9]`)

// startKubeProxy waits for its first sync; it calls itself healthy before.
func (b *bed) startKubeProxy(t *testing.T, mode string) *lab.Process {
	t.Helper()
	proxy, err := b.StartKubeProxy(t.Context(), b.node, mode)
	if err != nil {
		t.Fatal(fmt.Errorf("starting kube-proxy: %w", err))
	}
	t.Cleanup(func() { _ = proxy.Stop() })
	eventually(t, "kube-proxy syncs", func() error {
		response, err := b.node.HTTPClient(false).Get("http://127.0.0.1:10349/metrics")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && !synced.Match(body) {
			err = errors.New("it has not synced yet")
		}
		return err
	})
	return proxy
}

// cleanUp removes kube-proxy's rules.
func (b *bed) cleanUp(t *testing.T, proxy *lab.Process) {
	t.Helper()
	_ = proxy.Stop() // it may have been stopped
	if out, err := b.node.Output(t.Context(), proxy.Path(), "--cleanup"); err != nil {
		t.Errorf("cleaning up after kube-proxy: %v: %s", err, out)
	}
}
