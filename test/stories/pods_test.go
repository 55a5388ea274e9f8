package stories

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestS11Readiness: an unready pod gets nothing, a ready one its share within a second, and one that
// terminates keeps the connections it has and gets no new ones.
func TestS11Readiness(t *testing.T) {
	s := newScene(t, "s11")
	s.apply("clusterip.yaml")
	labels := map[string]string{"app": "my-dep"}
	ready := s.run("ready", 2, labels)
	late := s.runOne(lab.PodSpec{Name: "late", Labels: labels, NotReady: true})
	visitor := s.visitor()
	to := inside(visitor, s.service("my-dep").Spec.ClusterIP, 8000)

	s.awaitAnswers(to, ready)
	s.evenly(to, ready)

	if err := late.SetReady(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	took := s.awaitFirstAnswer(to, late)
	if took > time.Second {
		t.Errorf("the pod got its first connection %s after it was ready", took)
	}
	s.evenly(to, ready, []*lab.Pod{late})

	conn := s.connectTo(to, late)
	if err := late.Terminate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.awaitAnswers(to, ready)
	s.evenly(to, ready)
	if answer, err := askOn(conn); err != nil || answer != late.Host.Name {
		t.Errorf("the connection to the terminating pod is answered by %q (%v)", answer, err)
	}
	if err := late.Drain(t.Context()); err != nil { // the open connection is idle, so it may end
		t.Error(err)
	}
	s.evenly(to, ready)

	// And back: unready again.
	if err := ready[0].SetReady(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	s.awaitAnswers(to, ready[1:])
}

// awaitFirstAnswer waits until the pod has answered and returns how long that took.
func (s *scene) awaitFirstAnswer(to target, pod *lab.Pod) time.Duration {
	s.t.Helper()
	started := time.Now()
	await(s.t, fmt.Sprintf("%s reaches %s", to, pod.Host.Name), func(ctx context.Context) error {
		answer, err := to.from.Ask(ctx, to.network, to.address)
		if err == nil && answer != pod.Host.Name {
			err = fmt.Errorf("%s answered", answer)
		}
		return err
	})
	return time.Since(started)
}

// connectTo opens a connection that leads to that pod, and leaves it open.
func (s *scene) connectTo(to target, pod *lab.Pod) net.Conn {
	s.t.Helper()
	var conn net.Conn
	await(s.t, fmt.Sprintf("%s leads to %s", to, pod.Host.Name), func(ctx context.Context) error {
		candidate, err := to.from.Dial(ctx, to.network, to.address)
		if err != nil {
			return err
		}
		answer, err := askOn(candidate)
		if err == nil && answer != pod.Host.Name {
			err = fmt.Errorf("it leads to %s", answer)
		}
		if err != nil {
			return errors.Join(err, candidate.Close())
		}
		conn = candidate
		return nil
	})
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// askOn makes an HTTP request on an open connection, and leaves it open.
func askOn(conn net.Conn) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(bound)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: pod\r\n\r\n"); err != nil {
		return "", err
	}
	buffer := make([]byte, 4<<10)
	n, err := conn.Read(buffer)
	_, body, _ := strings.Cut(string(buffer[:n]), "\r\n\r\n")
	return strings.TrimSpace(body), err
}

// TestS12ScaleAndRollUnderLoad: 1 -> 10 -> 2 replicas, and then each of them replaced, while clients
// go on asking from outside and inside: no request fails.
func TestS12ScaleAndRollUnderLoad(t *testing.T) {
	s := newScene(t, "s12")
	s.apply("rolling-update.yaml")
	visitor := s.visitor()
	service := s.service("rolling")
	loads := append(s.everyNode(service.Spec.Ports[0].NodePort, corev1.IPv4Protocol), inside(visitor, service.Spec.ClusterIP, 80))
	settled := func(n int) []string {
		t.Helper()
		s.kubectl("rollout", "status", "deployment", "rolling", "--timeout="+bound.String())
		pods := s.awaitPods("app=rolling", n)
		for _, to := range loads {
			await(t, fmt.Sprintf("%s reaches %v", to, pods), func(ctx context.Context) error { return onlyAnswers(ctx, to, pods) })
		}
		return pods
	}
	settled(1)

	stop := s.keepAsking(loads)
	s.kubectl("scale", "deployment", "rolling", "--replicas=10")
	settled(10)
	s.kubectl("scale", "deployment", "rolling", "--replicas=2")
	before := settled(2)
	s.kubectl("rollout", "restart", "deployment", "rolling")
	after := settled(2)
	stop()

	for _, pod := range after {
		if slices.Contains(before, pod) {
			t.Errorf("%s was not replaced", pod)
		}
	}
}

// keepAsking puts a constant load on the targets. The function it returns ends it and fails the test
// for every target with a request that failed.
func (s *scene) keepAsking(targets []target) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	tallies := make([]chan lab.Tally, len(targets))
	for i, to := range targets {
		tallies[i] = make(chan lab.Tally, 1)
		go func() { tallies[i] <- to.from.TallyUntil(ctx, to.network, to.address) }()
	}
	return func() {
		s.t.Helper()
		cancel()
		for i, to := range targets {
			tally := <-tallies[i]
			s.t.Logf("%s: %d requests, %d failed", to, tally.Total(), tally.Failed)
			if tally.Failed > 0 || tally.Total() == 0 {
				s.t.Errorf("%s: %d of %d requests failed: %v", to, tally.Failed, tally.Total(), errors.Join(tally.Errors...))
			}
		}
	}
}

// awaitPods waits until there are exactly n pods of these labels, all ready and none terminating, and
// returns what they answer with, sorted.
func (s *scene) awaitPods(selector string, n int) []string {
	s.t.Helper()
	var out []string
	await(s.t, fmt.Sprintf("there are %d pods %s", n, selector), func(ctx context.Context) error {
		list, err := s.Kubernetes.CoreV1().Pods(s.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		out = nil
		for _, pod := range list.Items {
			out = append(out, pod.Namespace+"."+pod.Name)
			if ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			}); !ready || pod.DeletionTimestamp != nil {
				return fmt.Errorf("%s is not ready or terminating", pod.Name)
			}
		}
		if len(out) != n {
			return fmt.Errorf("there are %v", out)
		}
		slices.Sort(out)
		return nil
	})
	return out
}

// TestS14AnyWorkload: the pods of every kind of workload can be a group, and all of them together an
// entry point. A Job's finished pod is none any more.
func TestS14AnyWorkload(t *testing.T) {
	s := newScene(t, "s14")
	visitor := s.visitor()
	s.apply("workloads.yaml")
	vip := s.service("everything").Spec.ClusterIP
	var all []string
	var jobs []string
	for i, group := range []struct {
		selector string
		pods     int
	}{
		{"from=deployment", 2},
		{"from=replicationcontroller", 2},
		{"from=statefulset", 2},
		{"from=daemonset", len(s.Nodes())},
		{"batch.kubernetes.io/job-name=demo", 2},
	} {
		pods := s.awaitPods(group.selector, group.pods)
		s.awaitNames(inside(visitor, vip, int32(8001+i)), pods)
		all, jobs = append(all, pods...), pods
	}
	slices.Sort(all)
	s.awaitNames(inside(visitor, vip, 80), all)
	tally := visitor.Tally(t.Context(), "tcp", inside(visitor, vip, 80).address, connections)
	if err := fair(tally, all); err != nil {
		t.Error(err)
	}

	finished := strings.TrimPrefix(jobs[0], s.namespace+".")
	s.kubectl("patch", "pod", finished, "--subresource=status", "--type=merge", "--patch", `{"status":{"phase":"Succeeded"}}`)
	s.awaitNames(inside(visitor, vip, 8005), jobs[1:])
}
