package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// envGuest makes TestGuest what these tests run: a lab of its own, started inside the test's lab,
// which is the guest's host. That host belongs to nobody else, so whatever changes on it is the
// guest's doing.
const envGuest = "SERVICEGROUP_LAB_TEST_GUEST"

// TestGuest is not a test: it fills a lab and does what envGuest says.
func TestGuest(t *testing.T) {
	what := os.Getenv(envGuest)
	if what == "" {
		t.Skip("only runs inside the isolation tests")
	}
	network, _ := newTestNetwork(t)
	node := network.Nodes()[0]
	addTestPod(t, node, "guest-pod")
	for _, host := range []*Host{network.Fabric, node.Host} {
		if _, err := host.Output(t.Context(), "nft", "add table inet guest"); err != nil {
			t.Fatal(err)
		}
	}
	sleeper := exec.Command("sleep", "1000")
	must(t, node.Start(sleeper))
	fmt.Fprintln(os.Stdout, "guest is up")
	switch what {
	case "exit":
		os.Exit(7)
	case "wait":
		select {}
	}
}

// startGuest starts a guest and waits until it is up.
func startGuest(t *testing.T, what string) *exec.Cmd {
	t.Helper()
	guest := exec.Command("/proc/self/exe", "-test.run", "^TestGuest$")
	guest.Env = append(os.Environ(), envGuest+"="+what, EnvUserNamespace+"=")
	output, err := guest.StdoutPipe()
	must(t, err)
	guest.Stderr = os.Stderr
	must(t, guest.Start())
	lines := bufio.NewScanner(output)
	var said bytes.Buffer
	for lines.Scan() {
		if strings.Contains(lines.Text(), "guest is up") {
			return guest
		}
		fmt.Fprintln(&said, lines.Text())
	}
	t.Fatalf("the guest did not come up: %v: %s", guest.Wait(), said.String())
	return nil
}

func TestNothingIsLeftBehind(t *testing.T) {
	Require(t)
	before := hostState(t)
	ends := []struct {
		name   string
		guest  string
		end    func(guest *os.Process) error
		status func(syscall.WaitStatus) bool
	}{
		{
			"exit", "exit", func(*os.Process) error { return nil },
			func(s syscall.WaitStatus) bool { return s.ExitStatus() == 7 },
		},
		{
			"SIGTERM", "wait", func(p *os.Process) error { return p.Signal(unix.SIGTERM) },
			func(s syscall.WaitStatus) bool { return s.Exited() && s.ExitStatus() != 0 },
		},
		{
			"SIGKILL of the parent", "wait", func(p *os.Process) error { return p.Kill() },
			func(s syscall.WaitStatus) bool { return s.Signal() == unix.SIGKILL },
		},
	}
	for _, end := range ends {
		t.Run(end.name, func(t *testing.T) {
			guest := startGuest(t, end.guest)
			must(t, end.end(guest.Process))
			_ = guest.Wait() // its status is looked at below
			if status := guest.ProcessState.Sys().(syscall.WaitStatus); !end.status(status) {
				t.Errorf("the guest ended with %v", guest.ProcessState)
			}
			awaitHostState(t, before)
		})
	}
}

func TestRunningLabDoesNotShowOnItsHost(t *testing.T) {
	Require(t)
	before, state := hostNetwork(t), hostState(t)
	guest := startGuest(t, "wait")
	if after := hostNetwork(t); after != before {
		t.Errorf("before:\n%s\nwith a lab:\n%s", before, after)
	}
	must(t, guest.Process.Kill())
	_ = guest.Wait()         // killed
	awaitHostState(t, state) // the next test counts processes
}

// awaitHostState waits until the host is as it was: the kernel kills what is left of a guest after its parent
// has gone. There may be fewer processes, since those of a test before may have been ending.
func awaitHostState(t *testing.T, before host) {
	t.Helper()
	must(t, poll(t.Context(), 10*time.Second, nil, func(context.Context) error {
		if after := hostState(t); after.network != before.network || after.processes > before.processes {
			return fmt.Errorf("before:\n%v\nafter:\n%v", before, after)
		}
		return nil
	}))
}

// host is all a lab could leave on its host.
type host struct {
	network   string
	processes int
}

func hostState(t *testing.T) host {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	alive := 0
	for _, process := range processes {
		// Orphans of guests become children of this process, process 1 of its namespace, and
		// nobody waits for them: a zombie is nothing but a number.
		stat, err := os.ReadFile(filepath.Join(process, "stat"))
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			alive++
		}
	}
	return host{network: hostNetwork(t), processes: alive}
}

// hostNetwork is what a lab could change on its host: rules, links, names of namespaces, mounts,
// sysctls.
func hostNetwork(t *testing.T) string {
	t.Helper()
	var state strings.Builder
	ruleset, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("listing the rules: %v: %s", err, ruleset)
	}
	links, err := netlink.LinkList()
	must(t, err)
	for _, link := range links {
		fmt.Fprintln(&state, "link", link.Attrs().Name, link.Attrs().Flags)
	}
	names, err := os.ReadDir(namespaceDir)
	must(t, err)
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	forwarding, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	must(t, err)
	fmt.Fprintf(&state, "rules: %s\nnamespaces: %v\nip_forward: %s\nmounts: %s", ruleset, names, forwarding, mounts)
	return state.String()
}
