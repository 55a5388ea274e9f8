package endtoend

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/image"
)

const imageVersion = "v1.2.3"

// epoch is the time of every file of the image.
var epoch = time.Date(2024, time.February, 29, 12, 0, 0, 0, time.UTC)

// theBuilder is shared by the tests.
var theBuilder = sync.OnceValues(func() (*image.Builder, error) {
	root, err := lab.ModuleRoot()
	if err != nil {
		return nil, err
	}
	// /run is the lab's own, and goes with it.
	dir, err := os.MkdirTemp("/run", "image-")
	if err != nil {
		return nil, err
	}
	return image.NewBuilder(root, dir)
})

// theIndex is what make image pushed.
var theIndex = sync.OnceValues(func() (*image.Index, error) {
	builder, err := theBuilder()
	if err != nil {
		return nil, err
	}
	return builder.Push(context.Background(), image.Release{Tag: "first", Version: imageVersion, Epoch: epoch})
})

// requireImages skips the test, saying why, where no image can be built or run, for this machine or another; in CI
// it fails it.
func requireImages(t *testing.T) {
	t.Helper()
	lab.Require(t)
	err := errors.Join(image.Missing(), image.EmulatorMissing())
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("this test builds and runs the image, and in CI it must run: %v", err)
	default:
		t.Skipf("SKIPPED, builds and runs the image: %v", err)
	}
}

// TestImage runs make image: it pushes an image for each of both architectures, with one static binary
// that runs and nothing else, as nobody, and the same each time, whichever platform is named or finished first.
func TestImage(t *testing.T) {
	requireImages(t)
	pushed, err := theIndex()
	if err != nil {
		t.Fatal(err)
	}
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	if pushed.MediaType != types.OCIImageIndex || len(pushed.Images) != len(machines) {
		t.Errorf("the registry has a %s of %v", pushed.MediaType, slices.Collect(maps.Keys(pushed.Images)))
	}
	for architecture, machine := range machines {
		t.Run(architecture, func(t *testing.T) {
			built := pushed.Images["linux/"+architecture]
			if built == nil {
				t.Fatal("there is no image for it")
			}
			expectImage(t, built, architecture)
			expectStatic(t, built.Files[0].Content, machine)
			expectRuns(t, built)
		})
	}
	builder, err := theBuilder()
	if err != nil {
		t.Fatal(err)
	}
	for name, again := range map[string]image.Release{
		"again":         {},
		"backwards":     {Backwards: true},
		"another-order": {Platforms: "linux/arm64,linux/amd64"},
	} {
		again.Tag, again.Version, again.Epoch = name, imageVersion, epoch
		built, err := builder.Push(t.Context(), again)
		if err != nil {
			t.Fatal(err)
		}
		if built.Digest != pushed.Digest {
			t.Errorf("the image is %s, and built %s %s", pushed.Digest, name, built.Digest)
		}
	}
}

func expectImage(t *testing.T, built *image.Image, architecture string) {
	t.Helper()
	if built.Config.Architecture != architecture || built.Config.OS != "linux" || !built.Config.Created.Equal(epoch) {
		t.Errorf("the image is for %s on %s, of %s", built.Config.OS, built.Config.Architecture, built.Config.Created)
	}
	config := built.Config.Config
	if config.User != "65532:65532" || !slices.Equal(config.Entrypoint, []string{"/servicegroup"}) || len(config.Cmd) > 0 {
		t.Errorf("the image starts %q %q as %q", config.Entrypoint, config.Cmd, config.User)
	}
	if len(config.Volumes) > 0 || len(config.ExposedPorts) > 0 || len(config.Labels) > 0 {
		t.Errorf("the image has volumes %v, ports %v, labels %v", config.Volumes, config.ExposedPorts, config.Labels)
	}
	if built.Layers != 1 || len(built.Files) != 1 {
		t.Fatalf("the image has %d layers and %d files", built.Layers, len(built.Files))
	}
	file := built.Files[0]
	if file.Name != "servicegroup" || file.FileInfo().Mode() != 0o755 || file.Uid != 0 || file.Gid != 0 || !file.ModTime.Equal(epoch) {
		t.Errorf("the image's file is %s of %d:%d, mode %o, of %s", file.Name, file.Uid, file.Gid, file.Mode, file.ModTime)
	}
}

// expectStatic checks that a binary is for the machine and asks for no other file.
func expectStatic(t *testing.T, binary []byte, machine elf.Machine) {
	t.Helper()
	program, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	if program.Machine != machine {
		t.Errorf("the binary is for %s, want %s", program.Machine, machine)
	}
	libraries, err := program.ImportedLibraries()
	if err != nil || len(libraries) > 0 {
		t.Errorf("the binary asks for %v (%v)", libraries, err)
	}
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			t.Error("the binary asks for a dynamic linker")
		}
	}
	if !bytes.Contains(binary, []byte(imageVersion)) {
		t.Error("the binary does not know its version")
	}
}

// expectRuns runs the image as the image says, without a capability and on a root that cannot be written; the
// program of another architecture by itself.
func expectRuns(t *testing.T, built *image.Image) {
	t.Helper()
	for argument, want := range map[string]string{"--version": imageVersion, "--help": "Available Commands"} {
		cmd, err := built.Emulate(argument)
		if built.Config.Architecture == runtime.GOARCH {
			cmd, err = built.Command(image.Container{Name: "run" + argument, Pod: corev1.PodSpec{Containers: []corev1.Container{{
				Args: []string{argument},
				SecurityContext: &corev1.SecurityContext{
					RunAsNonRoot: new(true), ReadOnlyRootFilesystem: new(true), AllowPrivilegeEscalation: new(false),
					Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
					SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
				},
			}}}})
		}
		if err != nil {
			t.Fatal(err)
		}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("running the image with %s: %v\n%s", argument, err, out)
		}
	}
}
