package dataplane

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

func everything() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}

// TestConnectionsSpreadEvenly takes five endpoints, since eight slots then have three holes.
func TestConnectionsSpreadEvenly(t *testing.T) {
	b := requireBed(t)
	names := []string{"web1", "web2", "web3"}
	for i := range 2 {
		name := fmt.Sprintf("extra%d", i)
		pod, err := b.nodes[i].AddPod(name, lab.TCP(webPort), lab.UDP(webPort))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = pod.Remove() })
		b.hosts[name] = pod.Host
		names = append(names, name)
	}
	b.serve(t, newService(names...))
	const connections = 2000
	for _, ipv4 := range []bool{true, false} {
		network, address := b.target("vip:80/tcp", ipv4)
		tally := b.hosts["asker1"].Tally(context.Background(), network, address, connections)
		if tally.Failed > 0 {
			t.Fatalf("%d of %d connections failed: %v", tally.Failed, connections, tally.Errors)
		}
		expected := float64(connections) / float64(len(names))
		var chiSquare float64
		for _, name := range names {
			difference := float64(tally.Answers[name]) - expected
			chiSquare += difference * difference / expected
		}
		// Five endpoints leave four degrees of freedom; an even spread exceeds 29.9 once in 200,000 runs.
		if chiSquare > 29.9 {
			t.Errorf("the spread %v (IPv4=%v) is not even: chi-square %.1f", tally.Answers, ipv4, chiSquare)
		}
	}
}

func sticky(seconds int32, pods ...string) service {
	return newService(pods...).with(func(s *corev1.Service) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	})
}

func TestSessionAffinity(t *testing.T) {
	b := requireBed(t)
	for _, ipv4 := range []bool{true, false} {
		for _, to := range []string{"vip:80/tcp", "vip:53/udp", "node1:30080/tcp"} {
			t.Run(fmt.Sprintf("%s IPv4=%v", to, ipv4), func(t *testing.T) {
				b.serve(t, sticky(60, "web1", "web2", "web3"))
				from := path{from: "asker1", to: to}
				first := b.observe(from, ipv4)
				if !slices.Contains([]string{"web1", "web2", "web3"}, first) {
					t.Fatalf("%d connections of one client reached %q, want one pod", asks, first)
				}
				// The client's pod leaves: the client moves, and stays with its new pod.
				rest := slices.DeleteFunc([]string{"web1", "web2", "web3"}, func(pod string) bool { return pod == first })
				b.change(t, sticky(60, rest...))
				second := b.observe(from, ipv4)
				if !slices.Contains(rest, second) {
					t.Fatalf("after %s left, connections reached %q, want one of %v", first, second, rest)
				}
				// Its old pod comes back: the client stays.
				b.change(t, sticky(60, "web1", "web2", "web3"))
				if third := b.observe(from, ipv4); third != second {
					t.Errorf("after %s came back, connections reached %q, want %q", first, third, second)
				}
			})
		}
	}
}

// TestSessionAffinityIsSharedByAllAddresses comes by one address and then by another, again and again
// from the start, since one pod of three would be met by chance.
func TestSessionAffinityIsSharedByAllAddresses(t *testing.T) {
	b := requireBed(t)
	all := []string{"web1", "web2", "web3"}
	one := func(from, to string, ipv4 bool) string {
		t.Helper()
		network, address := b.target(to, ipv4)
		pod, _, err := b.ask(from, network, address, answerBound)
		if err != nil {
			t.Fatalf("%s to %s: %v", from, to, err)
		}
		return pod
	}
	for _, ipv4 := range []bool{true, false} {
		for _, test := range []struct{ from, first, then string }{
			{"asker1", "vip:80/tcp", "node1:30080/tcp"},
			{"asker1", "node1:30053/udp", "vip:53/udp"},
			{"client", "vip:80/tcp", "node1:30080/tcp"},
			{"node1", "node1:30080/tcp", "vip:80/tcp"},
		} {
			for range 8 {
				b.serve(t, sticky(60, all...))
				first := one(test.from, test.first, ipv4)
				if then := one(test.from, test.then, ipv4); then != first {
					t.Fatalf("%s reached %s by %s and %s by %s (IPv4=%v)", test.from, first, test.first, then, test.then, ipv4)
				}
			}
		}
	}
	// Under policy Local a NodePort has fewer pods to choose from: it takes none of the virtual IP's.
	b.serve(t, sticky(60, "web3").with(func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }))
	if pod := one("client", "vip:80/tcp", true); pod != "web3" {
		t.Errorf("the virtual IP leads to %s", pod)
	}
	b.run(t, []path{{from: "client", to: "node1:30080/tcp", want: dropped}})
}

func TestSessionAffinityEndsAfterItsTimeout(t *testing.T) {
	b := requireBed(t)
	b.serve(t, sticky(1, "web1", "web2", "web3"))
	network, address := b.target("vip:80/tcp", true)
	seen := map[string]bool{}
	deadline := time.Now().Add(60 * time.Second)
	for len(seen) < 2 && time.Now().Before(deadline) {
		pod, _, err := b.ask("asker1", network, address, answerBound)
		if err != nil {
			t.Fatal(err)
		}
		seen[pod] = true
		// The timeout slides: a client has to be quiet for longer than it.
		<-time.After(1200 * time.Millisecond)
	}
	if len(seen) < 2 {
		t.Error("a client that paused for longer than the timeout kept its pod for a minute")
	}
}

func TestAChangeMovesTraffic(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService("web1"))
	for _, pods := range [][]string{{"web1", "web2"}, {"web2"}, {}, {"web2", "web3"}, {"web1", "web2", "web3"}, {"web3"}} {
		b.change(t, newService(pods...))
		want := refused
		if len(pods) > 0 {
			want = pods[0]
			for _, pod := range pods[1:] {
				want += " " + pod
			}
		}
		b.run(t, []path{
			{from: "asker2", to: "vip:80/tcp", want: want},
			{from: "client", to: "node1:30053/udp", want: want},
		})
	}
}
