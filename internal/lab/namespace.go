package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespaceDir is where iproute2 looks for named network namespaces. In the lab it is on a private
// tmpfs.
const namespaceDir = "/run/netns"

// maxName is how long a name of a namespace may be: it is a file name.
const maxName = 255

// createNamespace makes a network namespace with a name for `ip netns` and its loopback down.
func createNamespace(name string) (netns.NsHandle, error) {
	root, err := rootNamespace()
	if err != nil {
		return netns.None(), err
	}
	if name != filepath.Base(name) || name == "." || name == ".." || len(name) > maxName {
		return netns.None(), fmt.Errorf("creating network namespace: %q is no file name of at most %d bytes", name, maxName)
	}
	created := netns.None()
	err = runInNamespace(root, func() error {
		if created, err = netns.NewNamed(name); errors.Is(err, os.ErrExist) {
			return fmt.Errorf("creating network namespace: the name %q is taken", name)
		}
		return err
	})
	if err != nil {
		return netns.None(), fmt.Errorf("creating network namespace %q: %w", name, err)
	}
	return created, nil
}

// removeNamespace takes the name away. The kernel destroys the namespace when nothing uses it any
// more: no socket, no process, no handle.
func removeNamespace(name string, handle netns.NsHandle) error {
	path := filepath.Join(namespaceDir, name)
	return errors.Join(unix.Unmount(path, unix.MNT_DETACH), os.Remove(path), handle.Close())
}

// runInNamespace calls fn on a thread of its own inside the network namespace and puts the thread
// back afterwards; a thread that cannot be put back is discarded. Goroutines that fn starts run
// outside. When fn ends its goroutine (runtime.Goexit, as t.FailNow does), so does the caller's.
func runInNamespace(namespace netns.NsHandle, fn func() error) error {
	var (
		err      error
		returned bool
		done     = make(chan struct{})
	)
	go func() {
		defer close(done)
		// Without the matching unlock the runtime ends the thread together with this goroutine.
		runtime.LockOSThread()
		if err = netns.Set(namespace); err != nil {
			err, returned = fmt.Errorf("entering network namespace: %w", err), true
			return
		}
		defer func() {
			if netns.Set(inside.root) == nil {
				runtime.UnlockOSThread()
			}
		}()
		err = fn()
		returned = true
	}()
	<-done
	if !returned {
		runtime.Goexit()
	}
	return err
}
