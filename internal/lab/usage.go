package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used so far.
type Usage struct {
	// CPU includes the children that have ended: kube-proxy runs nft and iptables-restore.
	CPU time.Duration
	// Resident and Peak are bytes, of the process alone.
	Resident, Peak int64
}

// clockTick is the unit of times in /proc/PID/stat (USER_HZ, 100 on every architecture of Go's).
const clockTick = 10 * time.Millisecond

// Usage reads what the process has used so far.
func (p *Process) Usage() (Usage, error) {
	var u Usage
	pid := p.PID()
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
		u.CPU += time.Duration(ticks) * clockTick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("reading memory: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes int64
		switch {
		case scan(line, "VmRSS: %d kB", &kilobytes):
			u.Resident = kilobytes << 10
		case scan(line, "VmHWM: %d kB", &kilobytes):
			u.Peak = kilobytes << 10
		}
	}
	return u, nil
}

func scan(line, format string, value *int64) bool {
	n, err := fmt.Sscanf(line, format, value)
	return n == 1 && err == nil
}
