package image

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Foreign is the architecture of images that is not this machine's.
var Foreign = map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]

// emulator runs programs of the architecture [Foreign]. It is named, so nothing has to be registered with the
// kernel.
var emulator = map[string]string{"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}[Foreign]

// EmulatorMissing says how to get what [Image.Emulate] needs, if it is not there.
func EmulatorMissing() error { return missing(emulator, "qemu-user-static") }

// Emulate returns the command that runs the program of an image of another architecture, as it is and with
// all rights: no container.
func (i *Image) Emulate(args ...string) (*exec.Cmd, error) {
	if i.Config.Architecture != Foreign {
		return nil, errors.New("the image is this machine's own")
	}
	root := filepath.Join(i.dir, "emulated")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("unpacking the image: %w", err)
	}
	if err := i.unpack(root); err != nil {
		return nil, fmt.Errorf("unpacking the image: %w", err)
	}
	return exec.Command(emulator, append([]string{filepath.Join(root, i.Config.Config.Entrypoint[0])}, args...)...), nil
}
