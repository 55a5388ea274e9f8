package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// describeMachine says what was measured, on what.
func describeMachine() string {
	var out strings.Builder
	fmt.Fprintf(&out, "machine:  %s, %d cores, %s\n", cpuModel(), runtime.NumCPU(), memorySize())
	fmt.Fprintf(&out, "kernel:   %s\n", kernelRelease())
	fmt.Fprintf(&out, "load:     %s before the run\n", loadBefore)
	fmt.Fprintf(&out, "versions: %s; kube-proxy %s; %s; %s\n",
		versionOf("bin/servicegroup"), versionOf("bin/k8s/kube-proxy"), versionOf("nft"), runtime.Version())
	if ownUserNamespace() {
		fmt.Fprintln(&out, "Run as an ordinary user, so without SO_SNDBUFFORCE: the kernel's limit for socket buffers may slow both proxies down. Run as root for figures to quote.")
	}
	return out.String()
}

// loadBefore is the load average over one minute when the bench began: others' work on the machine.
var loadBefore = loadAverage()

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}

func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func memorySize() string {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "memory unknown"
	}
	return fmt.Sprintf("%d GiB of memory", info.Totalram*uint64(info.Unit)>>30)
}

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// versionOf is the first line that a program prints about its version. A path is one in the
// repository.
func versionOf(program string) string {
	path := program
	if strings.Contains(program, "/") {
		root, err := lab.ModuleRoot()
		if err != nil {
			return "unknown"
		}
		path = filepath.Join(root, program)
	}
	output, err := exec.Command(path, "--version").Output()
	if err != nil {
		return filepath.Base(program) + " of unknown version"
	}
	line, _, _ := strings.Cut(string(output), "\n")
	return strings.TrimPrefix(line, "Kubernetes ")
}
