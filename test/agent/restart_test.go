package agent

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// elementsWritten reads from the agent's metrics how many elements it has written.
func (b *bed) elementsWritten(t *testing.T) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(b.scrape(t)) {
		if strings.HasPrefix(line, "servicegroup_agent_elements_written_total{") {
			lines = append(lines, strings.TrimSpace(line[strings.LastIndex(line, " ")+1:]))
		}
	}
	return strings.Join(lines, " ")
}

func TestARestartDisturbsNothing(t *testing.T) {
	b := requireBed(t)
	pods := b.pods(t, "web", 3)
	service := b.serviceOf(t, "web", func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}, addresses(pods)...)
	agent := b.startAgent(t)
	b.awaitEndpoints(t, service.Spec.ClusterIP, addresses(pods))
	address := b.nodePortOf(service)
	first, err := b.client.Ask(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	connections := b.openConnections(t, address, 1000)
	datagrams := b.serveDatagrams(t, 3)
	var flows []*udpFlow
	for range 1000 {
		flows = append(flows, b.openFlow(t, b.nodePortOf(datagrams)))
	}
	if dump, err := b.node.Output(t.Context(), agent.Path(), "agent", "dump", "--all"); err != nil ||
		!strings.Contains(dump, "difference: none") || !strings.Contains(dump, pods[0].IPv4.String()) {
		t.Errorf("agent dump: %v\n%s", err, dump)
	}

	if err := agent.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-agent.Ended()
	b.startAgent(t)

	if written := b.elementsWritten(t); written != "0 0" {
		t.Errorf("the restarted agent wrote %s elements, want 0 0", written)
	}
	for range 10 {
		if again, err := b.client.Ask(t.Context(), "tcp", address); err != nil || again != first {
			t.Fatalf("after the restart the client reached %q (%v), before it %q", again, err, first)
		}
	}
	for i, conn := range connections {
		if err := request(conn); err != nil {
			t.Fatalf("connection %d did not survive the restart: %v", i, err)
		}
	}
	for i, flow := range flows {
		if pod, err := flow.ask(); err != nil || pod != flow.pod {
			t.Fatalf("UDP flow %d went to %s before the restart and to %q after it (%v)", i, flow.pod, pod, err)
		}
	}
}

// openConnections makes connections and a first request on each, so that they are established at
// both ends.
func (b *bed) openConnections(t *testing.T, address string, n int) []net.Conn {
	t.Helper()
	var out []net.Conn
	for range n {
		conn, err := b.client.Dial(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := request(conn); err != nil {
			t.Fatal(err)
		}
		out = append(out, conn)
	}
	return out
}

// request makes an HTTP request on a connection that stays open.
func request(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(bound)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: web\r\n\r\n"); err != nil {
		return err
	}
	buffer := make([]byte, 4<<10)
	n, err := conn.Read(buffer)
	if err == nil && !strings.HasPrefix(string(buffer[:n]), "HTTP/1.1 200") {
		return fmt.Errorf("answer %q", buffer[:n])
	}
	return err
}

// TestKilledInMidTransaction kills the agent at any moment while a Service goes back and forth between
// two sets of endpoints: the kernel must hold the one or the other, whole.
func TestKilledInMidTransaction(t *testing.T) {
	b := requireBed(t)
	set := func(from, n int) (out []netip.Addr) {
		for i := range n {
			out = append(out, netip.AddrFrom4([4]byte{10, 244, 200, byte(from + i)}))
		}
		return out
	}
	sets := [][]netip.Addr{set(1, 40), set(101, 70)}
	service := b.serviceOf(t, "torn", func(*corev1.Service) {}, sets[0]...)
	agent := b.startAgent(t)
	b.awaitEndpoints(t, service.Spec.ClusterIP, sets[0])
	current := 0
	for round := range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(8_000))*time.Microsecond)
		for ctx.Err() == nil {
			current = 1 - current
			b.setEndpoints(t, "torn", sets[current]...)
		}
		cancel()
		if err := agent.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-agent.Ended()
		if got := sorted(b.programmed(t, service.Spec.ClusterIP)); !slices.Equal(got, sets[0]) && !slices.Equal(got, sets[1]) {
			t.Fatalf("round %d left a mix of %d endpoints: %v", round, len(got), got)
		}
		agent = b.startAgent(t)
		b.awaitEndpoints(t, service.Spec.ClusterIP, sets[current])
	}
}

// TestOthersChangesArePutRight disturbs our tables in every way nft can, and checks that the tables
// of others stay.
func TestOthersChangesArePutRight(t *testing.T) {
	b := requireBed(t)
	pods := b.pods(t, "steady", 2)
	service := b.serviceOf(t, "steady", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, addresses(pods)...)
	b.startAgent(t)
	b.awaitEndpoints(t, service.Spec.ClusterIP, addresses(pods))
	address := b.nodePortOf(service)
	right := b.listing(t)
	for _, disturbance := range []string{
		"flush ruleset",
		"delete table ip servicegroup",
		"delete table ip6 servicegroup",
		fmt.Sprintf("delete element ip servicegroup endpoints { %s . tcp . 80 . 1 }", service.Spec.ClusterIP),
		fmt.Sprintf("add element ip servicegroup virtual-ips { %s }", b.node.IPv4),
		"flush chain ip servicegroup prerouting",
		"insert rule ip servicegroup prerouting drop",
	} {
		b.nft(t, "add table ip foreign { chain c { ip saddr 192.0.2.1 drop; }; }")
		b.nft(t, disturbance)
		took := eventually(t, "after "+disturbance, func() error {
			if now := b.listing(t); now != right {
				return fmt.Errorf("the tables are not back:\n%s", now)
			}
			return nil
		})
		t.Logf("%q was put right after %s", disturbance, took.Round(time.Millisecond))
		if took > 2*time.Second {
			t.Errorf("after %q it took %s to put the tables right, want 2s at most", disturbance, took)
		}
		if _, err := b.client.Ask(t.Context(), "tcp", address); err != nil {
			t.Errorf("after %q: %v", disturbance, err)
		}
		if foreign, _ := b.node.Output(t.Context(), "nft", "list", "table", "ip", "foreign"); disturbance != "flush ruleset" && !strings.Contains(foreign, "192.0.2.1") {
			t.Errorf("after %q the table of others is %q", disturbance, foreign)
		}
	}
}

func (b *bed) listing(t *testing.T) string {
	t.Helper()
	out := ""
	for _, family := range []string{"ip", "ip6"} {
		// An error means that the table is not there, which is for the caller to compare.
		list, _ := b.node.Output(t.Context(), "nft", "-s", "list", "table", family, "servicegroup")
		out += list
	}
	return out
}

func (b *bed) nft(t *testing.T, command string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(command + "\n")
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := b.node.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("nft %q: %v\n%s", command, err, output.String())
	}
}

func TestCleanupAndAFreshStart(t *testing.T) {
	b := requireBed(t)
	service := b.serviceOf(t, "fresh", func(*corev1.Service) {}, netip.MustParseAddr("10.244.200.1"))
	agent := b.startAgent(t)
	b.awaitEndpoints(t, service.Spec.ClusterIP, []netip.Addr{netip.MustParseAddr("10.244.200.1")})
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	if b.listing(t) == "" {
		t.Error("a stopped agent took its tables with it")
	}
	binary := agent.Path()
	if out, err := b.node.Output(t.Context(), binary, "agent", "cleanup"); err != nil {
		t.Fatalf("agent cleanup: %v\n%s", err, out)
	}
	if left := b.listing(t); strings.Contains(left, "chain") {
		t.Errorf("cleanup left\n%s", left)
	}
	b.startAgent(t) // ready means programmed
	if got := b.programmed(t, service.Spec.ClusterIP); len(got) != 1 {
		t.Errorf("the agent calls itself ready with %v programmed", got)
	}
}
