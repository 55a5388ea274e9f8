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
