package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// usage is what a process has used so far.
type usage struct {
	// cpu includes the children that have ended: kube-proxy runs nft and iptables-restore.
	cpu time.Duration
	// resident and peak are bytes, of the process alone.
	resident, peak int64
}

// clockTick is the unit of times in /proc/PID/stat (USER_HZ, 100 on every architecture of Go's).
const clockTick = 10 * time.Millisecond

func readUsage(pid int) (usage, error) {
	var u usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, fmt.Errorf("reading CPU time: %w", err)
	}
	// The second field is the program's name in parentheses and may hold anything; user and system
	// time, the process's and its children's, are fields 14 to 17.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, field := range fields[11:15] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, fmt.Errorf("reading CPU time: %w", err)
		}
		u.cpu += time.Duration(ticks) * clockTick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("reading memory: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes int64
		switch {
		case scan(line, "VmRSS: %d kB", &kilobytes):
			u.resident = kilobytes << 10
		case scan(line, "VmHWM: %d kB", &kilobytes):
			u.peak = kilobytes << 10
		}
	}
	return u, nil
}

func scan(line, format string, value *int64) bool {
	n, err := fmt.Sscanf(line, format, value)
	return n == 1 && err == nil
}

// groupBound is how long the kernel may take to abort what a killed process asked for.
const groupBound = 10 * time.Minute

// endGroup kills the process and its children and waits until they are gone: an nft in the middle of a
// large transaction would otherwise keep a CPU busy during the next measurement.
func endGroup(ctx context.Context, process *lab.Process) error {
	group := process.PID()
	if err := unix.Kill(-group, unix.SIGKILL); err != nil {
		return fmt.Errorf("killing %s and its children: %w", process.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, groupBound)
	defer cancel()
	err := every(ctx, 100*time.Millisecond, func() (bool, error) {
		running, err := groupRuns(group)
		return !running, err
	})
	if err != nil {
		return fmt.Errorf("waiting for the end of %s and its children: %w", process.Name, err)
	}
	return nil
}

// groupRuns says whether a process of the group is alive.
func groupRuns(group int) (bool, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return false, fmt.Errorf("listing processes: %w", err)
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		// State, parent and group follow the name. A zombie does nothing any more.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 2 && fields[0] != "Z" && fields[2] == strconv.Itoa(group) {
			return true, nil
		}
	}
	return false, nil
}
