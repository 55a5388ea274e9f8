package stories

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestS9MultiSelector: one virtual IP, port 80 to one group and port 8080 to another that shares no
// label with it. Every pod listens on both ports, so a wrong turn would be answered.
func TestS9MultiSelector(t *testing.T) {
	s := newScene(t, "s9")
	both := []lab.Port{lab.TCP(80), lab.TCP(8080)}
	frontend := s.run("frontend", 3, map[string]string{"app": "guestbook", "tier": "frontend"}, both...)
	tomcat := s.run("tomcat", 2, map[string]string{"app": "myweb"}, both...)
	visitor := s.visitor()
	s.apply("guestbook.yaml")
	vip := s.service("guestbook").Spec.ClusterIP

	toFrontend := append(s.everyNode(30001, corev1.IPv4Protocol), inside(visitor, vip, 80))
	toTomcat := append(s.everyNode(30002, corev1.IPv4Protocol), inside(visitor, vip, 8080))
	expect := func(tos []target, pods []*lab.Pod) {
		t.Helper()
		for _, to := range tos {
			s.awaitAnswers(to, pods)
			s.evenly(to, pods)
		}
	}
	expect(toFrontend, frontend)
	expect(toTomcat, tomcat)

	// A group scaled to zero rejects its own port only ...
	s.scaleToZero(tomcat, toTomcat)
	expect(toFrontend, frontend)
	// ... which says so, and comes back with the pods.
	message := s.awaitCondition("guestbook", "Ready", "False", "NoReadyEndpoints")
	if !strings.Contains(message, "tomcat") || strings.Contains(message, "frontend") {
		t.Errorf("the condition Ready says %q", message)
	}
	expect(toTomcat, s.run("tomcat-again", 2, map[string]string{"app": "myweb"}, both...))
}

// TestS9OneGroupComesAndGoes: while one group is scaled to zero and back, again and again, the other
// loses no connection, and the one that is back serves at once and without a failure.
func TestS9OneGroupComesAndGoes(t *testing.T) {
	s := newScene(t, "s9")
	s.apply("guestbook.yaml")
	frontend := s.run("frontend", 3, map[string]string{"app": "guestbook", "tier": "frontend"})
	visitor := s.visitor()
	vip := s.service("guestbook").Spec.ClusterIP
	steady := []target{inside(visitor, vip, 80), s.everyNode(30001, corev1.IPv4Protocol)[0]}
	for _, to := range steady {
		s.awaitAnswers(to, frontend)
	}
	flapping := append(s.everyNode(30002, corev1.IPv4Protocol), inside(visitor, vip, 8080))
	stop := s.keepAsking(steady)
	defer stop()
	for range 3 {
		tomcat := s.run("tomcat", 2, map[string]string{"app": "myweb"}, lab.TCP(8080))
		for _, to := range flapping {
			s.awaitAnswers(to, tomcat)
		}
		for _, to := range flapping {
			s.evenly(to, tomcat)
		}
		s.scaleToZero(tomcat, flapping)
	}
}

// scaleToZero ends the pods and waits until the targets refuse connections.
func (s *scene) scaleToZero(pods []*lab.Pod, targets []target) {
	s.t.Helper()
	if err := s.EndPods(s.t.Context(), pods...); err != nil {
		s.t.Fatal(err)
	}
	for _, to := range targets {
		s.awaitRefused(to)
	}
	if err := s.DeletePods(s.t.Context(), pods...); err != nil {
		s.t.Fatal(err)
	}
}

// TestS9ConstantRules: a hundred ServiceGroups take as many rules and chains as one.
func TestS9ConstantRules(t *testing.T) {
	s := newScene(t, "s9")
	s.run("frontend", 3, map[string]string{"app": "guestbook"})
	visitor := s.visitor()
	manifest := func(n int) string {
		return fmt.Sprintf(`apiVersion: net.servicegroup.dev/v1alpha1
kind: ServiceGroup
metadata: {name: group-%d}
spec:
  type: NodePort
  groups:
  - {name: guestbook, selector: {matchLabels: {app: guestbook}}}
  - {name: other, selector: {matchLabels: {app: other-%d}}}
  ports:
  - {name: http, port: 80, backends: [{group: guestbook}]}
  - {name: other, port: 8080, backends: [{group: other}]}
---
`, n, n)
	}
	awaitServed := func(n int) {
		t.Helper()
		service := s.service(fmt.Sprintf("group-%d", n))
		s.awaitAnswers(inside(visitor, service.Spec.ClusterIP, 80), s.pods[:3])
		for _, to := range s.everyNode(service.Spec.Ports[1].NodePort, corev1.IPv4Protocol) {
			s.awaitRefused(to)
		}
	}
	s.applyText(manifest(1))
	awaitServed(1)
	one := s.countRules()
	var rest strings.Builder
	for n := range 99 {
		rest.WriteString(manifest(n + 2))
	}
	s.applyText(rest.String())
	for n := range 99 {
		awaitServed(n + 2)
	}
	for i, hundred := range s.countRules() {
		if hundred != one[i] {
			t.Errorf("%s has %s with 100 ServiceGroups, %s with one", s.Nodes()[i].Name, hundred, one[i])
		}
	}
}

// ruleCount is the number of rules and chains in a node's whole ruleset.
type ruleCount struct{ rules, chains int }

func (c ruleCount) String() string { return fmt.Sprintf("%d rules in %d chains", c.rules, c.chains) }

// countRules asks nft on every node.
func (s *scene) countRules() []ruleCount {
	s.t.Helper()
	var counts []ruleCount
	for _, node := range s.Nodes() {
		out, err := node.Output(s.t.Context(), "nft", "-j", "list", "ruleset")
		if err != nil {
			s.t.Fatal(err)
		}
		var listing struct{ Nftables []map[string]json.RawMessage }
		if err := json.Unmarshal([]byte(out), &listing); err != nil {
			s.t.Fatal(err)
		}
		var count ruleCount
		for _, object := range listing.Nftables {
			if object["rule"] != nil {
				count.rules++
			}
			if object["chain"] != nil {
				count.chains++
			}
		}
		counts = append(counts, count)
	}
	return counts
}
