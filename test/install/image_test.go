package install

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// recipe parses the Dockerfile as docker build does.
func recipe(t *testing.T, root string) []instructions.Stage {
	t.Helper()
	file, err := os.Open(filepath.Join(root, "Dockerfile"))
	must(t, "opening the Dockerfile", err)
	defer file.Close()
	parsed, err := parser.Parse(file)
	must(t, "parsing the Dockerfile", err)
	if len(parsed.Warnings) > 0 {
		t.Errorf("the Dockerfile has warnings: %v", parsed.Warnings)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	must(t, "reading the Dockerfile", err)
	return stages
}

func commands[T instructions.Command](stage instructions.Stage) (out []T) {
	for _, command := range stage.Commands {
		if c, ok := command.(T); ok {
			out = append(out, c)
		}
	}
	return out
}

// TestImage: the last stage is empty but for the binary, and runs as nobody.
func TestImage(t *testing.T) {
	root, err := lab.ModuleRoot()
	must(t, "finding the repository", err)
	stages := recipe(t, root)
	if len(stages) != 2 || stages[0].Platform != "$BUILDPLATFORM" {
		t.Fatalf("the Dockerfile has %d stages, the first on %q", len(stages), stages[0].Platform)
	}
	last := stages[1]
	if last.BaseName != "scratch" || len(commands[*instructions.RunCommand](last)) > 0 {
		t.Errorf("the last stage is from %s, or runs something", last.BaseName)
	}
	copies := commands[*instructions.CopyCommand](last)
	if len(copies) != 1 || copies[0].From != stages[0].Name || !slices.Equal(copies[0].SourcePaths, []string{"/out/servicegroup"}) {
		t.Errorf("the last stage copies %+v", copies)
	}
	users := commands[*instructions.UserCommand](last)
	if len(users) != 1 || !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(users[0].User) {
		t.Errorf("the image runs as %+v, want a number that is not root's", users)
	}
	entry := commands[*instructions.EntrypointCommand](last)
	if len(entry) != 1 || entry[0].PrependShell || !slices.Equal(entry[0].CmdLine, []string{"/servicegroup"}) {
		t.Errorf("the image starts %+v", entry)
	}
}

// TestImageIsReproducible runs the build command of the Dockerfile, on what the Dockerfile copies and
// nothing else, in two folders: the binaries are the same, byte for byte.
func TestImageIsReproducible(t *testing.T) {
	root, err := lab.ModuleRoot()
	must(t, "finding the repository", err)
	stage := recipe(t, root)[0]
	runs := commands[*instructions.RunCommand](stage)
	build := strings.Join(runs[len(runs)-1].CmdLine, " ")
	if !strings.Contains(build, "go build") {
		t.Fatalf("the last command of the first stage is %q", build)
	}
	var binaries [][]byte
	for range 2 {
		folder := t.TempDir()
		for _, c := range commands[*instructions.CopyCommand](stage) {
			for _, source := range c.SourcePaths {
				copyInto(t, root, source, filepath.Join(folder, c.DestPath), len(c.SourcePaths) == 1)
			}
		}
		out := filepath.Join(folder, "out", "servicegroup")
		cmd := exec.Command("sh", "-c", strings.ReplaceAll(build, "/out/servicegroup", out))
		cmd.Dir = folder
		cmd.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH=amd64", "VERSION=v1.2.3", "GOFLAGS=-mod=readonly", "GOWORK=off")
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("running %s: %v\n%s", build, err, output)
		}
		binary, err := os.ReadFile(out)
		must(t, "reading the binary", err)
		binaries = append(binaries, binary)
		version, err := exec.Command(out, "--version").CombinedOutput()
		if err != nil || !strings.Contains(string(version), "v1.2.3") {
			t.Errorf("the binary says its version is %q (%v)", version, err)
		}
	}
	if !bytes.Equal(binaries[0], binaries[1]) {
		t.Error("two builds differ")
	}
}

// copyInto copies what a COPY instruction names, less what .dockerignore leaves out.
func copyInto(t *testing.T, root, pattern, destination string, whole bool) {
	t.Helper()
	sources, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(sources) == 0 {
		t.Fatalf("the Dockerfile copies %s, and there is none (%v)", pattern, err)
	}
	for _, source := range sources {
		info, err := os.Stat(source)
		must(t, "looking at "+source, err)
		if !info.IsDir() {
			copyFile(t, source, filepath.Join(destination, filepath.Base(source)))
			continue
		}
		if !whole {
			destination = filepath.Join(destination, filepath.Base(source))
		}
		must(t, "copying "+pattern, filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			relative, err := filepath.Rel(source, path)
			copyFile(t, path, filepath.Join(destination, relative))
			return err
		}))
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if strings.HasSuffix(from, "_test.go") || strings.Contains(from, "/testdata/") {
		return
	}
	content, err := os.ReadFile(from)
	must(t, "reading "+from, err)
	must(t, "making a folder", os.MkdirAll(filepath.Dir(to), 0o755))
	must(t, "writing "+to, os.WriteFile(to, content, 0o644))
}
