package agent

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// TestKilledInALoadOfManyBatches: a load into an empty namespace takes several transactions. An agent
// killed between two of them leaves whole Services, and the next one adds the rest.
func TestKilledInALoadOfManyBatches(t *testing.T) {
	b := requireBed(t)
	b.deleteTables(t)
	const services, each = 300, 50 // two batches, which take the kernel milliseconds
	var endpoints []netip.Addr
	for i := range each {
		endpoints = append(endpoints, netip.AddrFrom4([4]byte{10, 244, 200, byte(i + 1)}))
	}
	for i := range services {
		b.serviceOf(t, fmt.Sprintf("many-%d", i), func(*corev1.Service) {}, endpoints...)
	}

	before := b.generation(t)
	agent, err := b.LaunchAgent(b.node)
	if err != nil {
		t.Fatal(err)
	}
	for started := time.Now(); b.generation(t) == before; { // without a pause: the next one is milliseconds away
		if time.Since(started) > bound {
			t.Fatal("no transaction was committed")
		}
	}
	if err := agent.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-agent.Ended()
	frontends, slots := b.count()
	t.Logf("killed after %d of %d Services", frontends, services)
	if slots != each*frontends {
		t.Errorf("%d frontends were left with %d endpoints, want whole Services with %d each", frontends, slots, each)
	}

	b.startAgent(t)
	eventually(t, "waiting for the rest", func() error {
		if frontends, slots := b.count(); frontends != services || slots != each*services {
			return fmt.Errorf("there are %d frontends and %d endpoints, want %d and %d", frontends, slots, services, each*services)
		}
		return nil
	})
	if dump, err := b.node.Output(t.Context(), agent.Path(), "agent", "dump"); err != nil || !strings.Contains(dump, "difference: none") {
		t.Errorf("agent dump: %v\n%s", err, dump)
	}
}

// deleteTables leaves the node as it is after a boot.
func (b *bed) deleteTables(t *testing.T) {
	t.Helper()
	if err := b.tables.Cleanup(); err != nil {
		t.Fatal(err)
	}
}

// generation counts the transactions on the node.
func (b *bed) generation(t *testing.T) uint32 {
	t.Helper()
	generation, err := b.tables.ForeignGenerations()
	if err != nil {
		t.Fatal(err)
	}
	return generation
}

// count returns how many frontends and slots of endpoints the kernel holds.
func (b *bed) count() (frontends, slots int) {
	elements, err := b.tables.Elements()
	if err != nil {
		return 0, 0 // there are no tables yet
	}
	for _, e := range elements {
		switch e.Map {
		case ruleset.Frontends:
			frontends++
		case ruleset.Endpoints:
			slots++
		default:
		}
	}
	return frontends, slots
}
