package lab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwarded are the signals handed on to the lab. Ctrl-C on a terminal reaches the lab twice: once
// from the terminal and once from here.
var forwarded = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT}

// reexecute runs this program again in new namespaces and returns its exit status.
func reexecute() (int, error) {
	ownUserNS := os.Getenv(EnvUserNamespace) != "0"
	if !ownUserNS && os.Geteuid() != 0 {
		return 0, fmt.Errorf("%s=0 keeps the caller's user namespace, which needs root: unset it or run as root", EnvUserNamespace)
	}
	attr, err := namespaces(ownUserNS)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), envInside+"="+boolFlag(ownUserNS))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = attr

	// The kernel sends Pdeathsig when the thread that started the child ends, so this thread must
	// stay until the process ends.
	runtime.LockOSThread()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded...)
	if err := cmd.Start(); err != nil {
		return 0, refusal(err, ownUserNS)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // fails only when the child has ended, which Wait reports
		}
	}()
	return exitStatus(cmd.Wait())
}

func boolFlag(v bool) string {
	if v {
		return "1"
	}
	return "0"
}

// exitStatus turns the result of Wait into an exit status as a shell reports it.
func exitStatus(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}

func namespaces(ownUserNS bool) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
	}
	if !ownUserNS {
		return attr, nil
	}
	attr.Cloneflags |= unix.CLONE_NEWUSER
	if os.Geteuid() != 0 {
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		return attr, nil
	}
	// Root keeps every id it can name, so that files of other users stay readable and writable.
	var err error
	if attr.UidMappings, err = identityMap("/proc/self/uid_map"); err != nil {
		return nil, err
	}
	// And may drop its supplementary groups, as who starts containers does.
	attr.GidMappingsEnableSetgroups = true
	attr.GidMappings, err = identityMap("/proc/self/gid_map")
	return attr, err
}

// identityMap maps every id of the present user namespace to itself.
func identityMap(path string) ([]syscall.SysProcIDMap, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the id map: %w", err)
	}
	defer file.Close()
	var ids []syscall.SysProcIDMap
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var first, outside, count int
		if _, err := fmt.Sscan(lines.Text(), &first, &outside, &count); err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		ids = append(ids, syscall.SysProcIDMap{ContainerID: first, HostID: first, Size: count})
	}
	return ids, nil
}

// refusal says in one sentence why the kernel does not give us namespaces and what to do about it.
func refusal(err error, ownUserNS bool) error {
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		err = path.Err // what was refused is not that file
	}
	if !ownUserNS {
		return fmt.Errorf("the lab cannot create network, mount and pid namespaces (%w): it needs CAP_SYS_ADMIN; in a container, start that with --privileged", err)
	}
	remedies := []string{"sysctl user.max_user_namespaces=15000"}
	for _, sysctl := range []struct{ name, good string }{
		{"kernel.unprivileged_userns_clone", "1"},
		{"kernel.apparmor_restrict_unprivileged_userns", "0"},
	} {
		if _, missing := os.Stat("/proc/sys/" + strings.ReplaceAll(sysctl.name, ".", "/")); missing == nil {
			remedies = append(remedies, "sysctl "+sysctl.name+"="+sysctl.good)
		}
	}
	return fmt.Errorf("the lab cannot create a user namespace (%w): as root run `%s`, or run as root with %s=0; in a container, start that with --privileged",
		err, strings.Join(remedies, "; "), EnvUserNamespace)
}
