package lab

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTallyCountsAnswersAndFailures(t *testing.T) {
	network, client := newTestNetwork(t)
	pod := addTestPod(t, network.Nodes()[0], "counted")
	for _, test := range []struct {
		network string
		port    int32
		failed  int
	}{{"tcp", 80, 0}, {"udp", 53, 0}, {"tcp", 81, 20}, {"udp", 54, 20}} {
		tally := client.Tally(t.Context(), test.network, HostPort(pod.IPv6, test.port), 20)
		if tally.Total() != 20 || tally.Failed != test.failed || tally.Answers["counted"] != 20-test.failed {
			t.Errorf("%s port %d: %+v", test.network, test.port, tally)
		}
		for _, err := range tally.Errors {
			if !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("%s port %d: %v", test.network, test.port, err)
			}
		}
	}
}

func TestLoadThenDrain(t *testing.T) {
	network, client := newTestNetwork(t)
	pod := addTestPod(t, network.Nodes()[0], "drained")
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan Tally)
	go func() { result <- client.TallyUntil(ctx, "tcp", HostPort(pod.IPv4, 80)) }()
	if _, err := client.Ask(t.Context(), "tcp", HostPort(pod.IPv4, 80)); err != nil {
		t.Error(err)
	}
	stop()
	if tally := <-result; tally.Failed > 0 {
		t.Errorf("%+v", tally)
	}
	must(t, pod.Drain(t.Context()))
	if _, err := client.Ask(t.Context(), "tcp", HostPort(pod.IPv4, 80)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after draining: %v", err)
	}
}

func TestDoComesBack(t *testing.T) {
	network, _ := newTestNetwork(t)
	node := network.Nodes()[0]
	want := errors.New("mine")
	if err := node.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	// A test that fails inside Do ends; it does not go on after Do.
	ended := make(chan struct{})
	wentOn := false
	go func() {
		defer close(ended)
		_ = node.Do(func() error { (&testing.T{}).SkipNow(); return nil })
		wentOn = true
	}()
	if <-ended; wentOn {
		t.Error("Do returned although its function ended the goroutine")
	}
	if _, err := node.Dial(t.Context(), "tcp", "localhost:80"); err == nil {
		t.Error("a host name was looked up outside the host")
	}
	for _, name := range []string{"../escape", "", "..", "node1"} {
		if _, err := node.AddPod(name); err == nil {
			t.Errorf("a pod was named %q", name)
		}
	}
}
