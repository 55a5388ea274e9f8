package endtoend

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// netAdmin is CAP_NET_ADMIN in a set of capabilities.
const netAdmin = 1 << 12

// seccompFilter is how the kernel says that system calls are filtered.
const seccompFilter = "2"

// expectConfined checks what the kernel lets a program that runs from the image do.
func (i *installation) expectConfined(of program, user string, capabilities uint64) {
	i.t.Helper()
	if i.image == nil {
		return
	}
	proc := containerOf(i.t, of)
	status := statusOf(i.t, proc)
	set := fmt.Sprintf("%016x", capabilities)
	for name, want := range map[string]string{
		"Uid": user, "CapPrm": set, "CapEff": set, "CapBnd": set, "CapInh": fmt.Sprintf("%016x", 0), "NoNewPrivs": "1", "Seccomp": seccompFilter,
	} {
		if got := status[name]; got != want {
			i.t.Errorf("%s runs with %s %s, want %s", of.Name, name, got, want)
		}
	}
	mounts, err := os.ReadFile(filepath.Join(proc, "mountinfo"))
	if err != nil {
		i.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		// The fifth field is where it is mounted, the sixth how.
		if fields := strings.Fields(line); fields[4] == "/" && !strings.HasPrefix(fields[5], "ro") {
			i.t.Errorf("%s may write to its root: %s", of.Name, line)
		}
	}
}

// expectWithinLimits checks that a program that has served needed much less memory than its pod may take. The
// limit itself is the cgroup's, and the lab has none of its own.
func (i *installation) expectWithinLimits(of program) {
	i.t.Helper()
	if i.image == nil {
		return
	}
	peak, err := strconv.ParseInt(statusOf(i.t, containerOf(i.t, of))["VmHWM"], 10, 64)
	if err != nil {
		i.t.Fatal(err)
	}
	peak <<= 10 // it is in kB
	limit := of.limits.Memory().Value()
	i.t.Logf("%s took %d MB, and may take %d", of.Name, peak>>20, limit>>20)
	if limit < 2*peak {
		i.t.Errorf("%s may take %d MB, and took %d with next to nothing to do", of.Name, limit>>20, peak>>20)
	}
}

// containerOf is the folder in /proc of the container's first process, which is the runtime's child.
func containerOf(t *testing.T, of program) string {
	t.Helper()
	runtime := fmt.Sprint(of.PID())
	child, err := os.ReadFile(filepath.Join("/proc", runtime, "task", runtime, "children"))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join("/proc", strings.TrimSpace(string(child)))
}

// statusOf are the first words of what the kernel says of a process.
func statusOf(t *testing.T, proc string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, rest, found := strings.Cut(line, ":"); found {
			if words := strings.Fields(rest); len(words) > 0 {
				out[name] = words[0]
			}
		}
	}
	return out
}
