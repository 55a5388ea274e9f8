package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// user is the image's.
const user = 65532

// Missing says which program is not there and how to get it.
func Missing() error {
	var problems []error
	for _, name := range []string{"buildah", "crun"} {
		if _, err := exec.LookPath(name); err != nil {
			problems = append(problems, fmt.Errorf("%s is missing; get it with: apt-get install %s", name, name))
		}
	}
	if err := nobody(); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// nobody says whether this user namespace lacks the image's user.
func nobody() error {
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return fmt.Errorf("reading which users there are: %w", err)
	}
	for line := range strings.Lines(string(users)) {
		var first, outside, count uint64
		if _, err := fmt.Sscan(line, &first, &outside, &count); err == nil && first <= user && user < first+count {
			return nil
		}
	}
	return fmt.Errorf("there is no user %d, as whom the image runs; run the test as root", user)
}

// Builder builds images in a folder of its own.
type Builder struct {
	repository, dir string
}

// NewBuilder returns a builder of the repository's image, with what it needs to know in dir.
func NewBuilder(repository, dir string) (*Builder, error) {
	b := &Builder{repository: repository, dir: dir}
	for name, content := range map[string]string{
		// Nothing is pulled, so there is no signature to check.
		".config/containers/policy.json": `{"default": [{"type": "insecureAcceptAnything"}]}`,
		"registries.conf":                `unqualified-search-registries = ["localhost"]`,
		"tmp/keep":                       "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("preparing buildah: %w", err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return nil, fmt.Errorf("preparing buildah: %w", err)
		}
	}
	return b, b.standIn()
}

// Recipe parses the Dockerfile as docker build does, and returns its stages and the parser's warnings.
func Recipe(repository string) ([]instructions.Stage, []parser.Warning, error) {
	file, err := os.Open(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		return nil, nil, fmt.Errorf("opening the Dockerfile: %w", err)
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing the Dockerfile: %w", err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the Dockerfile: %w", err)
	}
	return stages, parsed.Warnings, nil
}

// The compiler's image has the machine's folders where these say.
const (
	inGo      = "/machine/go"
	inModules = "/machine/modules"
	inCache   = "/machine/cache"
)

// standIn makes an image with the name of the compiler's. It is empty: what is in it is mounted by
// [Builder.mounts] when it runs.
func (b *Builder) standIn() error {
	stages, _, err := Recipe(b.repository)
	if err != nil {
		return err
	}
	name := stages[0].BaseName
	_, version, _ := strings.Cut(name, ":")
	if !strings.HasPrefix(runtime.Version()+".", "go"+version+".") {
		return fmt.Errorf("the Dockerfile compiles with %s, and this is %s", name, runtime.Version())
	}
	ctx := context.Background()
	container, err := b.buildah(ctx, "from", "scratch")
	if err != nil {
		return err
	}
	config := []string{"config"}
	for _, variable := range []string{
		"PATH=" + inGo + "/bin:/usr/bin:/bin", "GOTOOLCHAIN=local",
		"GOMODCACHE=" + inModules, "GOCACHE=" + inCache, "GOPROXY=off",
	} {
		config = append(config, "--env", variable)
	}
	for _, command := range [][]string{
		append(config, container),
		{"commit", "--quiet", "--rm", container, "localhost/" + name},
	} {
		if _, err := b.buildah(ctx, command...); err != nil {
			return err
		}
	}
	return nil
}

// mounts are the arguments that mount the machine's toolchain, caches and shell into the stand-in.
func (b *Builder) mounts(ctx context.Context) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOMODCACHE", "GOCACHE")
	cmd.Dir = b.repository
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("asking go for its folders: %w", err)
	}
	from := strings.Fields(string(out))
	args := []string{"--volume", filepath.Join(b.dir, "tmp") + ":/tmp"}
	for i, to := range []string{inGo + ":ro", inModules, inCache} {
		args = append(args, "--volume", from[i]+":"+to)
	}
	for _, folder := range []string{"/bin", "/lib", "/lib64", "/usr"} {
		if _, err := os.Stat(folder); err == nil {
			args = append(args, "--volume", folder+":"+folder+":ro")
		}
	}
	return args, nil
}

// Build builds the image for Linux on an architecture, as make image does: with a version, and with the
// time that every file gets.
func (b *Builder) Build(ctx context.Context, architecture, version string, epoch time.Time) (*Image, error) {
	mounts, err := b.mounts(ctx)
	if err != nil {
		return nil, err
	}
	name := "localhost/servicegroup:" + architecture
	if _, err := b.buildah(ctx, append(append([]string{"build"}, mounts...),
		"--pull=never", "--no-cache", "--identity-label=false", fmt.Sprintf("--timestamp=%d", epoch.Unix()),
		"--platform=linux/"+architecture, "--build-arg=BUILDPLATFORM=linux/"+runtime.GOARCH, "--build-arg=VERSION="+version,
		"--tag="+name, b.repository)...); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, architecture+"-")
	if err != nil {
		return nil, fmt.Errorf("creating the image's folder: %w", err)
	}
	if _, err := b.buildah(ctx, "push", "--quiet", name, "oci:"+dir); err != nil {
		return nil, err
	}
	return read(dir)
}

func (b *Builder) buildah(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "buildah", append([]string{
		"--root", filepath.Join(b.dir, "storage"), "--runroot", filepath.Join(b.dir, "run"), "--storage-driver=vfs",
	}, args...)...)
	cmd.Env = append(os.Environ(),
		"HOME="+b.dir, "TMPDIR="+filepath.Join(b.dir, "tmp"), // which has cache mounts, too
		"CONTAINERS_REGISTRIES_CONF="+filepath.Join(b.dir, "registries.conf"),
		"BUILDAH_ISOLATION=chroot",
	)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("buildah %s: %w\n%s%s", strings.Join(args, " "), err, out, problems.String())
	}
	return strings.TrimSpace(string(out)), nil
}
