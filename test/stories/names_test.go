package stories

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestS5Headless: the name leads to the ready pods of all groups, pods with a hostname have names of
// their own, and an unready pod has none.
func TestS5Headless(t *testing.T) {
	s := newScene(t, "s5")
	s.apply("headless.yaml")
	var pods []*lab.Pod
	for i, role := range []string{"primary", "replica", "replica"} {
		name := fmt.Sprintf("db-%d", i)
		pods = append(pods, s.runOne(lab.PodSpec{
			Name: name, Hostname: name, Subdomain: "db", Labels: map[string]string{"app": "db", "role": role},
			Ports: []lab.Port{lab.TCP(5432)},
		}))
	}
	visitor := s.visitor()
	s.awaitAddresses(visitor, "db", pods...)
	for i, pod := range pods {
		s.awaitAddresses(visitor, fmt.Sprintf("db-%d.db", i), pod)
	}
	answer, err := visitor.Ask(t.Context(), "tcp", lab.HostPort(pods[1].IPv4, 5432))
	if err != nil || answer != pods[1].Host.Name {
		t.Errorf("%s is answered by %q (%v)", pods[1].Host.Name, answer, err)
	}
	if err := pods[1].SetReady(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	s.awaitAddresses(visitor, "db", pods[0], pods[2])
}

// awaitAddresses waits until a name leads to exactly the addresses of these pods.
func (s *scene) awaitAddresses(from *lab.Pod, name string, pods ...*lab.Pod) {
	s.t.Helper()
	var want []string
	for _, pod := range pods {
		want = append(want, pod.IPv4.String())
	}
	slices.Sort(want)
	await(s.t, name+" resolves", func(context.Context) error {
		got, err := s.lookup(from, name)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("%s is %v (%w), want %v", name, got, err, want)
		}
		return nil
	})
}

// TestS6ExternalName: the name is an alias.
func TestS6ExternalName(t *testing.T) {
	s := newScene(t, "s6")
	s.apply("externalname.yaml")
	resolver := s.Resolver(s.visitor().Host)
	name := "shop." + s.namespace + ".svc.cluster.local."
	await(t, name+" is an alias", func(ctx context.Context) error {
		alias, err := resolver.LookupCNAME(ctx, name)
		if alias != "shop.example.com." {
			return fmt.Errorf("it is %q (%w)", alias, err)
		}
		return nil
	})
}
