package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
)

// ServiceAccountPath is where a container finds what it needs to talk to the API server.
const ServiceAccountPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// Container is a container of a pod.
type Container struct {
	// Name is unique among those that run.
	Name string
	// Pod says how the container runs, but for the environment.
	Pod corev1.PodSpec
	// Environment is the container's, as name=value.
	Environment []string
	// ServiceAccount is the folder on this machine that becomes [ServiceAccountPath]; none if empty.
	ServiceAccount string
}

// Command returns the command that runs a container of the image in the network it is started in, as
// kubelet and runtime do: with the pod's arguments, user, capabilities, seccomp profile and read-only root.
// What the cgroups would bound is not bounded.
func (i *Image) Command(c Container) (*exec.Cmd, error) {
	bundle := filepath.Join(i.dir, c.Name)
	root := filepath.Join(bundle, "rootfs")
	for _, folder := range []string{root, filepath.Join(bundle, "dev")} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, fmt.Errorf("creating the container %s: %w", c.Name, err)
		}
	}
	if err := i.unpack(root); err != nil {
		return nil, fmt.Errorf("unpacking the image for %s: %w", c.Name, err)
	}
	spec, err := i.spec(c, bundle)
	if err != nil {
		return nil, fmt.Errorf("creating the container %s: %w", c.Name, err)
	}
	content, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("creating the container %s: %w", c.Name, err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), content, 0o644); err != nil {
		return nil, fmt.Errorf("creating the container %s: %w", c.Name, err)
	}
	// Though it is to use no cgroup, crun ends where it finds no file system for them.
	return exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs cgroup /sys/fs/cgroup && exec "$@"`, "sh",
		"crun", "--root="+filepath.Join(i.dir, "crun"), "--cgroup-manager=disabled", "run", "--bundle="+bundle, c.Name), nil
}

// spec is what a runtime is told.
func (i *Image) spec(c Container, bundle string) (*specs.Spec, error) {
	container := c.Pod.Containers[0]
	rights := container.SecurityContext
	if rights == nil || rights.Capabilities == nil || !slices.Equal(rights.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		return nil, fmt.Errorf("the container %s keeps capabilities", container.Name)
	}
	user, err := i.user(c.Pod)
	if err != nil {
		return nil, err
	}
	args := append(slices.Clone(i.Config.Config.Entrypoint), container.Args...)
	if len(container.Command) > 0 {
		args = append(slices.Clone(container.Command), container.Args...)
	}
	capabilities := []string{}
	for _, added := range rights.Capabilities.Add {
		capabilities = append(capabilities, "CAP_"+string(added))
	}
	spec := &specs.Spec{
		Version: "1.0.2", Hostname: c.Name,
		Root:   &specs.Root{Path: "rootfs", Readonly: rights.ReadOnlyRootFilesystem != nil && *rights.ReadOnlyRootFilesystem},
		Mounts: mounts(filepath.Join(bundle, "dev"), c.ServiceAccount),
		Process: &specs.Process{
			User: user, Args: args, Cwd: "/",
			Env:             append(slices.Clone(i.Config.Config.Env), c.Environment...),
			NoNewPrivileges: rights.AllowPrivilegeEscalation != nil && !*rights.AllowPrivilegeEscalation,
			Capabilities:    &specs.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			},
			// Those of containerd.
			MaskedPaths:   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	if spec.Linux.Seccomp, err = seccompProfile(c.Pod, spec); err != nil {
		return nil, err
	}
	return spec, nil
}

// seccompProfile is the container's own or the pod's; without either, Kubernetes filters nothing. The
// runtime's default is docker's here, from which those of containerd and CRI-O come.
func seccompProfile(pod corev1.PodSpec, spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	profile := pod.Containers[0].SecurityContext.SeccompProfile
	if profile == nil && pod.SecurityContext != nil {
		profile = pod.SecurityContext.SeccompProfile
	}
	if profile == nil {
		return nil, nil
	}
	switch profile.Type {
	case corev1.SeccompProfileTypeRuntimeDefault:
		return seccomp.GetDefaultProfile(spec)
	case corev1.SeccompProfileTypeUnconfined:
		return nil, nil
	default:
		return nil, fmt.Errorf("the seccomp profile %s is not known here", profile.Type)
	}
}

// mounts are what every container has, and the service account.
func mounts(devices, serviceAccount string) []specs.Mount {
	out := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		// The lab may not make devices, and crun makes none where the folder is another's.
		{Destination: "/dev", Type: "bind", Source: devices, Options: []string{"bind"}},
	}
	for _, device := range []string{"/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"} {
		out = append(out, specs.Mount{Destination: device, Type: "bind", Source: device, Options: []string{"bind"}})
	}
	if serviceAccount != "" {
		out = append(out, specs.Mount{Destination: ServiceAccountPath, Type: "bind", Source: serviceAccount, Options: []string{"bind", "ro"}})
	}
	return out
}

// user is the container's user: its own, the pod's, or the image's.
func (i *Image) user(pod corev1.PodSpec) (specs.User, error) {
	uid, gid, _ := strings.Cut(i.Config.Config.User, ":")
	user, err := parseUser(uid, gid)
	if err != nil {
		return user, fmt.Errorf("the image's user %q: %w", i.Config.Config.User, err)
	}
	pick := func(into *uint32, ids ...*int64) {
		for _, id := range ids {
			if id != nil {
				*into = uint32(*id)
				return
			}
		}
	}
	own, shared := pod.Containers[0].SecurityContext, pod.SecurityContext
	if shared == nil {
		shared = &corev1.PodSecurityContext{}
	}
	pick(&user.UID, own.RunAsUser, shared.RunAsUser)
	pick(&user.GID, own.RunAsGroup, shared.RunAsGroup)
	nonRoot := shared.RunAsNonRoot
	if own.RunAsNonRoot != nil {
		nonRoot = own.RunAsNonRoot
	}
	if nonRoot != nil && *nonRoot && user.UID == 0 {
		return user, errors.New("it must not run as root, and would")
	}
	return user, nil
}

func parseUser(uid, gid string) (specs.User, error) {
	u, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return specs.User{}, err
	}
	g, err := strconv.ParseUint(gid, 10, 32)
	return specs.User{UID: uint32(u), GID: uint32(g)}, err
}
