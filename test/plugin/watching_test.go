package plugin

import (
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func mustAddr(text string) netip.Addr { return netip.MustParseAddr(text) }

// screen is what a command that goes on for ever has printed.
type screen struct {
	*exec.Cmd
	mu   sync.Mutex
	text strings.Builder
	// seen is how much of it was waited for.
	seen int
}

// watching starts a command whose output is looked at while it runs.
func watching(t *testing.T, cmd *exec.Cmd) *screen {
	t.Helper()
	s := &screen{Cmd: cmd}
	cmd.Stdout, cmd.Stderr = s, s
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%v printed\n%s", cmd.Args, s.all())
		}
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// until waits until what was printed since the last call has no complaint, and returns it.
func (s *screen) until(t *testing.T, check func(text string) error) string {
	t.Helper()
	var text string
	eventually(t, "waiting for output", func() error {
		s.mu.Lock()
		text = s.text.String()[s.seen:]
		s.mu.Unlock()
		return check(text)
	})
	s.seen += len(text)
	return text
}

// all is everything that was printed.
func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// lastScreen is what top printed last.
func lastScreen(text string) string { return text[max(0, strings.LastIndex(text, "NAMESPACE")):] }

// interrupt ends the command, as a user does.
func (s *screen) interrupt(t *testing.T) {
	t.Helper()
	if err := s.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("after an interrupt: %v", err)
	}
}
