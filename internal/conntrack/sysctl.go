package conntrack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// sysctls is where connection tracking has its settings; a test takes another folder.
const sysctls = "/proc/sys/net/netfilter"

// settings are kube-proxy's defaults (pkg/proxy/apis/config of Kubernetes 1.37): 32,768 connections a
// core, at least 131,072; times in seconds.
func settings(cores int) map[string]int {
	return map[string]int{
		"nf_conntrack_max":                     max(131072, 32768*cores),
		"nf_conntrack_tcp_timeout_established": 86400,
		"nf_conntrack_tcp_timeout_close_wait":  3600,
	}
}

// RaiseLimits raises the size of the connection table and its TCP timeouts to kube-proxy's defaults.
// What is higher already stays. It tries every setting; a network namespace that is not the host's
// refuses some.
func RaiseLimits() error { return raise(sysctls, settings(runtime.NumCPU())) }

func raise(folder string, wanted map[string]int) error {
	var errs []error
	for name, value := range wanted {
		path := filepath.Join(folder, name)
		content, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading a setting of connection tracking: %w", err))
			continue
		}
		if now, err := strconv.Atoi(strings.TrimSpace(string(content))); err == nil && now >= value {
			continue
		}
		if err := os.WriteFile(path, []byte(strconv.Itoa(value)), 0o644); err != nil {
			errs = append(errs, fmt.Errorf("raising a setting of connection tracking: %w", err))
		}
	}
	return errors.Join(errs...)
}
