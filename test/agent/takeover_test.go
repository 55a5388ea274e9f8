package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
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

// TestKubeProxysRulesStay: beside kube-proxy the agent programs, repairs and cleans up, and leaves what is not its
// own as it is, byte by byte.
func TestKubeProxysRulesStay(t *testing.T) {
	for _, mode := range []string{"iptables", "nftables"} {
		t.Run(mode, func(t *testing.T) { testBeside(t, requireBed(t), mode) })
	}
}

func testBeside(t *testing.T, b *bed, mode string) {
	endpoints := []netip.Addr{netip.MustParseAddr("10.244.200.1"), netip.MustParseAddr("10.244.200.2")}
	plain := b.serviceOf(t, "plain-"+mode, func(s *corev1.Service) {
		s.Labels, s.Spec.Type = nil, corev1.ServiceTypeNodePort
	}, endpoints[0])
	b.labelSlice(t, plain.Name, "")
	proxy := b.startKubeProxy(t, mode)
	eventually(t, "kube-proxy serves its own", func() error {
		if !strings.Contains(b.foreignRules(t), plain.Spec.ClusterIP) {
			return errors.New("it does not yet")
		}
		return nil
	})
	// kube-proxy writes its rules anew now and then, in another order: it stands still while they are compared.
	if err := proxy.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Signal(syscall.SIGCONT) })
	before := ""
	eventually(t, "what kube-proxy has begun ends", func() error {
		last := before
		if before = b.foreignRules(t); before != last {
			return errors.New("the rules change")
		}
		return nil
	})
	require := func(after string) {
		t.Helper()
		if now := b.foreignRules(t); now != before {
			t.Errorf("after %s the rules of others are\n%s\nthey were\n%s", after, now, before)
		}
	}
	agent := b.startAgent(t)
	ours := b.serviceOf(t, "ours-"+mode, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, endpoints...)
	b.awaitEndpoints(t, ours.Spec.ClusterIP, endpoints)
	require("a start and a new Service")
	b.setEndpoints(t, ours.Name, endpoints[1])
	b.awaitEndpoints(t, ours.Spec.ClusterIP, endpoints[1:])
	require("a change")
	b.nft(t, "delete table ip servicegroup")
	b.awaitEndpoints(t, ours.Spec.ClusterIP, endpoints[1:])
	require("a repair")
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	if out, err := b.node.Output(t.Context(), agent.Path(), "agent", "cleanup"); err != nil {
		t.Fatalf("agent cleanup: %v: %s", err, out)
	}
	require("the cleanup")
	if err := proxy.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.cleanUp(t, proxy)
}

// foreignRules are all rules of the node but the agent's. Counters do not count.
func (b *bed) foreignRules(t *testing.T) string {
	t.Helper()
	tables, err := b.node.Output(t.Context(), "nft", "list", "tables")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for table := range strings.Lines(tables) {
		if strings.HasSuffix(strings.TrimSpace(table), " servicegroup") {
			continue
		}
		listing, err := b.node.Output(t.Context(), "nft", append([]string{"-s", "list"}, strings.Fields(table)...)...)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(listing)
	}
	return out.String()
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
