package agent

import (
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestRepairsAreBounded: a program that changes our tables all the time does not keep the agent busy.
func TestRepairsAreBounded(t *testing.T) {
	b := requireBed(t)
	b.startAgent(t)
	const repairs = "servicegroup_agent_repairs_total"
	before, started, changes := b.metric(t, repairs), time.Now(), 0
	for ; time.Since(started) < 3*time.Second; changes++ {
		b.nft(t, fmt.Sprintf("add element ip servicegroup virtual-ips { 203.0.113.%d }", changes%250+1))
	}
	// One at once, one for each second, and one for what came during the last.
	most := time.Since(started).Seconds() + 2
	if got := b.metric(t, repairs) - before; got < 2 || got > most {
		t.Errorf("%d changes of others led to %v repairs, want 2 to %.0f", changes, got, most)
	}
}

// ownTable deletes our IPv4 table and keeps another program's of its name: the kernel refuses everybody else
// who writes to it, until release ends the program.
func (b *bed) ownTable(t *testing.T) (release func()) {
	t.Helper()
	owner := exec.Command("nft", "-i")
	commands, err := owner.StdinPipe()
	if err == nil {
		err = b.node.Start(owner)
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	release = func() {
		if !ended {
			ended = true
			_ = commands.Close()
			_ = owner.Wait()
		}
	}
	t.Cleanup(release)
	if _, err := io.WriteString(commands, "delete table ip servicegroup; add table ip servicegroup { flags owner; }\n"); err != nil {
		t.Fatal(err)
	}
	return release
}

// TestARefusedTransactionIsToldAndTriedAgain: ever less often, and with success once the kernel allows it.
func TestARefusedTransactionIsToldAndTriedAgain(t *testing.T) {
	b := requireBed(t)
	endpoints := []netip.Addr{netip.MustParseAddr("10.244.200.1")}
	service := b.serviceOf(t, "refused", func(*corev1.Service) {}, endpoints...)
	b.startAgent(t)
	b.awaitEndpoints(t, service.Spec.ClusterIP, endpoints)
	health := func() string { return b.get(t, "10256/healthz") }
	const failures, refusal = `servicegroup_agent_sync_failures_total{reason="EPERM"}`, "operation not permitted"
	before, started := b.metric(t, failures), time.Now()
	release := b.ownTable(t)
	eventually(t, "three failures", func() error {
		if got := b.metric(t, failures) - before; got < 3 {
			return fmt.Errorf("%v failures are counted", got)
		}
		return nil
	})
	if took := time.Since(started); took < 300*time.Millisecond {
		t.Errorf("the third try came after %s; want pauses of 100 and 200 ms", took)
	}
	if told := health(); !strings.Contains(told, refusal) {
		t.Errorf("/healthz says %s, want the reason", told)
	}
	release()
	b.awaitEndpoints(t, service.Spec.ClusterIP, endpoints)
	eventually(t, "the agent is content", func() error {
		if told := health(); strings.Contains(told, refusal) {
			return fmt.Errorf("/healthz says %s", told)
		}
		return nil
	})
}
