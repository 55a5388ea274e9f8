package lab

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vishvananda/netns"
)

const (
	// envInside marks the re-executed process. It only counts for process 1 of a pid namespace, so
	// a stray value in the environment does no harm.
	envInside = "SERVICEGROUP_LAB_INSIDE"

	// EnvUserNamespace is the environment variable that, set to 0, keeps the caller's user
	// namespace (root only). Socket options that need the initial user namespace, such as
	// SO_SNDBUFFORCE, work only that way.
	EnvUserNamespace = "SERVICEGROUP_LAB_USERNS"
)

// place is what Enter finds out about the namespaces it entered.
type place struct {
	root    netns.NsHandle // the lab's own network namespace
	hostPID int            // this process as seen by whoever started it
	userNS  bool           // whether the lab has a user namespace of its own
}

var (
	enterOnce sync.Once
	enterErr  error
	inside    *place // nil outside
)

// Enter moves the process into a lab: new user, network, mount and pid namespaces. Call it first in
// main or TestMain.
//
// The first call re-executes the program with the same arguments, hands on standard input, output
// and error, SIGINT, SIGTERM, SIGHUP and SIGQUIT, and exits with its exit status; it does not return. In the
// re-executed program Enter prepares the namespaces and returns nil. Everything in the lab is
// killed by the kernel when either of the two processes ends.
//
// The error, one sentence that says what is missing and how to get it, is returned when the kernel
// refuses.
func Enter() error {
	enterOnce.Do(func() {
		if os.Getpid() == 1 && os.Getenv(envInside) != "" {
			inside, enterErr = settle()
			return
		}
		var status int
		if status, enterErr = reexecute(); enterErr == nil {
			os.Exit(status)
		}
	})
	return enterErr
}

// HostPID is the process id of the lab as seen from where it was started: the target for nsenter.
// It is 0 outside a lab.
func HostPID() int {
	if inside == nil {
		return 0
	}
	return inside.hostPID
}

// EnterCommand is the command line that, in another terminal of the user who started the lab, puts
// a program into the lab's namespaces; the program's own command line is to be appended.
func EnterCommand() string {
	if inside == nil {
		return ""
	}
	flags := "-m -n -p"
	if inside.userNS {
		flags = "-U --preserve-credentials " + flags
	}
	return fmt.Sprintf("nsenter -t %d %s --", inside.hostPID, flags)
}

// rootNamespace is the lab's own network namespace.
func rootNamespace() (netns.NsHandle, error) {
	if inside == nil {
		return netns.None(), errors.New("not in a lab: call lab.Enter first in main or TestMain")
	}
	return inside.root, nil
}
