package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"
)

// asNobody runs something as another user than root.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, whose user it is, ends with this
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			failed <- errno
			return
		}
		do()
		failed <- nil
	}()
	if err := <-failed; err != nil {
		t.Skipf("becoming another user: %v: run this test as root", err)
	}
}

// TestOnlyRootIsAnswered on the agent's sockets.
func TestOnlyRootIsAnswered(t *testing.T) {
	address, asked := fmt.Sprintf("@servicegroup-test-%d-root", os.Getpid()), atomic.Int32{}
	answer := func(question) any { asked.Add(1); return "told" }
	if err := serveLocal(t.Context(), logr.Discard(), address, answer); err != nil {
		t.Fatal(err)
	}
	var told string
	if err := askLocal(address, question{}, &told); err != nil || told != "told" {
		t.Fatalf("root is told %q, %v", told, err)
	}
	told = ""
	var err error
	asNobody(t, func() { err = askLocal(address, question{}, &told) })
	if err == nil || told != "" || asked.Load() != 1 {
		t.Errorf("another user is told %q, %v", told, err)
	}
	if err := serveLocal(t.Context(), logr.Discard(), address, answer); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a second agent: %v", err)
	}
}

// TestAStrangerCannotKeepTheAgentFromStarting by holding the name of its socket, nor answer in its place.
func TestAStrangerCannotKeepTheAgentFromStarting(t *testing.T) {
	address := fmt.Sprintf("@servicegroup-test-%d-stranger", os.Getpid())
	var stranger net.Listener
	var err error
	asNobody(t, func() { stranger, err = net.Listen("unix", address) })
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if err := serveLocal(t.Context(), logr.Discard(), address, func(question) any { return "told" }); err != nil {
		t.Fatalf("the agent does not start: %v", err)
	}
	var told string
	if err := askLocal(address, question{}, &told); err == nil || !strings.Contains(err.Error(), "in the agent's place") {
		t.Errorf("the stranger is asked, and says %q, %v", told, err)
	}
	_ = stranger.Close()
	err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		return askLocal(address, question{}, &told) == nil, nil
	})
	if err != nil {
		t.Fatalf("once the stranger is gone, the agent does not answer: %v", err)
	}
}
