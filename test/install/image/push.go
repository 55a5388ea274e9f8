package image

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// user is the image's.
const user = 65532

// Missing says which program is not there and how to get it.
func Missing() error {
	problems := []error{missing("buildah", "buildah"), missing("crun", "crun")}
	if err := nobody(); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func missing(program, debianPackage string) error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("%s is missing; get it with: apt-get install %s", program, debianPackage)
	}
	return nil
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

// Builder runs make image, with a registry of its own to push to.
type Builder struct {
	repository, dir string
	registry        *httptest.Server
	environment     []string
}

// NewBuilder returns a builder of the repository's image, with what buildah needs to know in dir.
func NewBuilder(repository, dir string) (*Builder, error) {
	server := httptest.NewTLSServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	b := &Builder{repository: repository, dir: dir, registry: server}
	mounts, err := b.mounts()
	if err != nil {
		return nil, err
	}
	for name, content := range map[string]string{
		// Nothing is pulled, so there is no signature to check.
		".config/containers/policy.json": `{"default": [{"type": "insecureAcceptAnything"}]}`,
		"registries.conf":                `unqualified-search-registries = ["localhost"]`,
		".config/containers/certs.d/" + server.Listener.Addr().String() + "/ca.crt": string(pem.EncodeToMemory(
			&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw},
		)),
		"storage.conf": `[storage]
driver = "vfs"
graphroot = "` + filepath.Join(dir, "storage") + `"
runroot = "` + filepath.Join(dir, "run") + `"
`,
		"containers.conf": `[containers]
volumes = ["` + strings.Join(mounts, `", "`) + `"]
`,
		"tmp/keep": "",
		backwards:  lastFirst,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("preparing buildah: %w", err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return nil, fmt.Errorf("preparing buildah: %w", err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, backwards), 0o755); err != nil {
		return nil, fmt.Errorf("preparing buildah: %w", err)
	}
	b.environment = append(os.Environ(),
		"HOME="+dir, "TMPDIR="+filepath.Join(dir, "tmp"), // which has cache mounts, too
		"CONTAINERS_REGISTRIES_CONF="+filepath.Join(dir, "registries.conf"),
		"CONTAINERS_STORAGE_CONF="+filepath.Join(dir, "storage.conf"),
		"CONTAINERS_CONF="+filepath.Join(dir, "containers.conf"),
		"BUILDAH_ISOLATION=chroot",
	)
	return b, b.standIn()
}

// backwards is where a buildah is that builds as [lastFirst] does.
const backwards = "backwards/buildah"

// lastFirst has buildah build one platform after the other where it is asked for several, from the last to the first.
// It adds them to the index in the order in which they are finished.
const lastFirst = `#!/bin/bash
set -e
rest=()
for arg; do
	case $arg in
	--platform=*) IFS=, read -ra platforms <<<"${arg#*=}" ;;
	*) rest+=("$arg") ;;
	esac
done
for ((i = ${#platforms[@]} - 1; i >= 0; i--)); do
	buildah "${rest[0]}" --platform="${platforms[i]}" "${rest[@]:1}"
done
if ((${#platforms[@]} == 0)); then exec buildah "$@"; fi
`

// The compiler's image has the machine's folders where these say.
const (
	inGo      = "/machine/go"
	inModules = "/machine/modules"
	inCache   = "/machine/cache"
)

// standIn makes an image with the name of the compiler's. It is empty: what is in it is mounted by
// [Builder.mounts] when it runs.
func (b *Builder) standIn() error {
	recipe, err := ReadRecipe(b.repository)
	if err != nil {
		return err
	}
	_, version, _ := strings.Cut(recipe.Compiler, ":")
	if !strings.HasPrefix(runtime.Version()+".", "go"+version+".") {
		return fmt.Errorf("the Dockerfile compiles with %s, and this is %s", recipe.Compiler, runtime.Version())
	}
	ctx := context.Background()
	container, err := b.run(ctx, "buildah", "from", "scratch")
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
		{"commit", "--quiet", "--rm", container, "localhost/" + recipe.Compiler},
	} {
		if _, err := b.run(ctx, "buildah", command...); err != nil {
			return err
		}
	}
	return nil
}

// mounts are the volumes that put the machine's toolchain, caches and shell into the stand-in.
func (b *Builder) mounts() ([]string, error) {
	cmd := exec.Command("go", "env", "GOROOT", "GOMODCACHE", "GOCACHE")
	cmd.Dir = b.repository
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("asking go for its folders: %w", err)
	}
	from := strings.Fields(string(out))
	mounts := []string{filepath.Join(b.dir, "tmp") + ":/tmp"}
	for i, to := range []string{inGo + ":ro", inModules, inCache} {
		mounts = append(mounts, from[i]+":"+to)
	}
	for _, folder := range []string{"/bin", "/lib", "/lib64", "/usr"} {
		if _, err := os.Stat(folder); err == nil {
			mounts = append(mounts, folder+":"+folder+":ro")
		}
	}
	return mounts, nil
}

// Release is what make image is asked for.
type Release struct {
	Tag, Version string
	// Epoch is the time that every file gets.
	Epoch time.Time
	// Platforms are make's own if empty.
	Platforms string
	// Backwards has buildah finish the last of the platforms of one build first. It builds them at the same time, and
	// which is finished first is luck otherwise.
	Backwards bool
}

// Push runs make image and reads back what the registry has.
func (b *Builder) Push(ctx context.Context, release Release) (*Index, error) {
	name := b.registry.Listener.Addr().String() + "/servicegroup:" + release.Tag
	args := []string{
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", release.Epoch.Unix()),
		"make", "-C", b.repository, "image", "IMG=" + name, "VERSION=" + release.Version,
	}
	if release.Platforms != "" {
		args = append(args, "PLATFORMS="+release.Platforms)
	}
	if release.Backwards {
		args = append(args, "CONTAINER_TOOL="+filepath.Join(b.dir, backwards))
	}
	if _, err := b.run(ctx, "env", args...); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "image-")
	if err != nil {
		return nil, fmt.Errorf("creating the image's folder: %w", err)
	}
	return pull(name, dir, remote.WithContext(ctx), remote.WithTransport(b.registry.Client().Transport))
}

func (b *Builder) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = b.environment
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, problems.String())
	}
	return strings.TrimSpace(string(out)), nil
}
