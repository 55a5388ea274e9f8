package stories

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// outsideRanges hold the lab's hosts outside the cluster, and no Service or pod.
const outsideRanges = "192.168.100.192/26,fd00:64::/64"

// TestS6External: a database outside the cluster behind a virtual IP, a NodePort and a name, where it is
// allowed and as long as it is healthy; then pods join it.
func TestS6External(t *testing.T) {
	s := newScene(t, "s6")
	database := s.outsider("database")
	visitor := s.visitor()

	// The sample's own address is not in the ranges of this manager.
	s.apply("external.yaml")
	message := s.awaitCondition("db", "Accepted", "False", "AddressNotAllowed")
	if !strings.Contains(message, "192.0.2.10") || !strings.Contains(message, "--external-ranges") {
		t.Errorf("the condition does not name 192.0.2.10 and --external-ranges: %s", message)
	}
	service := s.service("db")
	vip := inside(visitor, service.Spec.ClusterIP, 5432)
	s.awaitRefused(vip)

	s.patchSpec("db", fmt.Sprintf(`{"ipFamilyPolicy":"PreferDualStack","groups":[{"name":"primary","external":{"addresses":[%q,%q],`+
		`"healthCheck":{"tcp":{},"periodSeconds":1,"failureThreshold":2}}}]}`, database.IPv4, database.IPv6))
	s.awaitCondition("db", "Ready", "False", "NoReadyEndpoints") // nothing listens
	targets := append(s.everyNode(service.Spec.Ports[0].NodePort, corev1.IPv4Protocol, corev1.IPv6Protocol), vip,
		tcp(s.Nodes()[0].Host, vip.address))
	everywhere := func(check func(target)) {
		t.Helper()
		for _, to := range targets {
			check(to)
		}
	}
	everywhere(s.awaitRefused)

	stop := s.serve(database, lab.TCP(5432))
	everywhere(func(to target) { s.awaitNames(to, []string{database.Name}) })
	s.awaitCondition("db", "Ready", "True", "EndpointsReady")
	if addresses, err := s.lookup(visitor, "db"); err != nil || !slices.Equal(addresses, []string{service.Spec.ClusterIP}) {
		t.Errorf("db is %v (%v), want %s", addresses, err, service.Spec.ClusterIP)
	}

	// It stops, and connections are refused at once; it comes back.
	stop()
	everywhere(s.awaitRefused)
	stop = s.serve(database, lab.TCP(5432))
	everywhere(func(to target) { s.awaitNames(to, []string{database.Name}) })

	// Pods join, on another port and checked by the kubelet; both answer, and when the database stops
	// they alone do. Its health is now asked over HTTP.
	pods := s.run("db", 2, map[string]string{"app": "db"}, lab.TCP(15432))
	s.patchSpec("db", fmt.Sprintf(`{"groups":[{"name":"pods","selector":{"matchLabels":{"app":"db"}}},{"name":"primary","external":{"addresses":[%q,%q],`+
		`"healthCheck":{"http":{"path":"/health"},"periodSeconds":1,"failureThreshold":2}}}],`+
		`"ports":[{"name":"sql","port":5432,"backends":[{"group":"primary"},{"group":"pods","targetPort":15432}]}]}`, database.IPv4, database.IPv6))
	everybody := append(names(pods), database.Name)
	slices.Sort(everybody)
	everywhere(func(to target) { s.awaitNames(to, everybody) })
	stop()
	everywhere(func(to target) { s.awaitAnswers(to, pods) })
	s.serve(database, lab.TCP(5432))
	everywhere(func(to target) { s.awaitNames(to, everybody) })
}

// outsider is a host outside the cluster that pods reach and that can answer them.
func (s *scene) outsider(name string) *lab.Host {
	s.t.Helper()
	host, err := s.Network.AddClient(name+"-"+rand.String(5), lab.ClientOptions{Pods: true})
	if err != nil {
		s.t.Fatal(err)
	}
	return host
}

// serve makes a host outside the cluster serve ports until stop is called or the test ends.
func (s *scene) serve(host *lab.Host, ports ...lab.Port) (stop func()) {
	s.t.Helper()
	end, err := host.Serve(ports...)
	if err != nil {
		s.t.Fatal(err)
	}
	var stopped bool
	stop = func() {
		if !stopped {
			stopped = true
			if err := end(); err != nil {
				s.t.Error(err)
			}
		}
	}
	s.t.Cleanup(stop)
	return stop
}

// patchSpec changes the spec of a ServiceGroup as kubectl patch does.
func (s *scene) patchSpec(name, spec string) {
	s.t.Helper()
	s.kubectl("patch", "svcg", name, "--type=merge", "--patch", `{"spec":`+spec+`}`)
}
