package endtoend

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// shop is an entry point that both releases know.
const shop = `{apiVersion: net.servicegroup.dev/v1alpha1, kind: ServiceGroup, metadata: {name: shop}, spec: {
  type: NodePort,
  groups: [{name: web, selector: {matchLabels: {app: web}}}, {name: names, selector: {matchLabels: {app: names}}}],
  ports: [
    {name: http, port: 80, backends: [{group: web}]},
    {name: dns, port: 53, protocol: UDP, backends: [{group: names}]}]}}`

// TestUpgradeUnderTraffic goes from the release before to this one and back, with the programs, charts, CRDs
// and tables of each, while clients make requests: none fails, and the entry point keeps its addresses.
func TestUpgradeUnderTraffic(t *testing.T) {
	lab.Require(t)
	t.Run("Helm", func(t *testing.T) {
		r := newRollout(t)
		// This one counts connections, so the layout is another whatever else changed.
		if layouts := r.thereAndBack(t, r.helm(t)); layouts["before"] == layouts["now"] {
			t.Errorf("both releases lay out the tables as %s", layouts["now"])
		}
	})
	t.Run("kustomize", func(t *testing.T) {
		r := newRollout(t)
		r.thereAndBack(t, r.kustomize(t))
	})
}

// thereAndBack installs the release before, and goes to this one and back while clients make requests. It
// returns how each laid out the tables.
func (r *rollout) thereAndBack(t *testing.T, apply func(release string)) map[string]string {
	t.Helper()
	apply("before")
	r.await(t, "before")
	service := r.openShop(t)
	layouts := map[string]string{"before": r.layout(t)}

	traffic, ctx := newTraffic(t)
	visitor := r.pods("visitor", 1, nil)[0]
	client, err := r.Client("client")
	if err != nil {
		t.Fatal(err)
	}
	for port, network := range map[int]string{0: "tcp", 1: "udp"} {
		p := service.Spec.Ports[port]
		traffic.connect(ctx, visitor.Host, network, fmt.Sprintf("%s:%d", service.Spec.ClusterIP, p.Port))
		traffic.hold(t, ctx, visitor.Host, network, fmt.Sprintf("%s:%d", service.Spec.ClusterIP, p.Port))
		for _, node := range r.Nodes() {
			traffic.connect(ctx, client, network, lab.HostPort(node.IPv4, p.NodePort))
			traffic.hold(t, ctx, client, network, lab.HostPort(node.IPv4, p.NodePort))
		}
	}

	for _, release := range []string{"now", "before"} {
		apply(release)
		r.await(t, release)
		r.expectFollowed(t, release, service)
		layouts[release] = r.layout(t)
	}
	traffic.expectAllAnswered(t)
	return layouts
}

func newRollout(t *testing.T) *rollout {
	t.Helper()
	r := &rollout{installation: newInstallation(t), binaries: map[string]string{}, running: map[types.UID]program{}}
	var err error
	if r.binaries["now"], err = lab.ProjectBinary(); err != nil {
		t.Fatal(err)
	}
	if r.binaries["before"], err = lab.PreviousBinary(); err != nil {
		t.Fatal(err)
	}
	return r
}

// helm installs, and from the second time on upgrades, with the release's chart.
func (r *rollout) helm(t *testing.T) func(release string) {
	t.Helper()
	helm, err := manifests.NewRelease(r.ControlPlane.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	change := helm.Install
	return func(release string) {
		t.Helper()
		load := manifests.Chart
		agent := manifests.Values{"clusterCIDRs": []any{lab.ClusterCIDRv4, lab.ClusterCIDRv6}}
		if release == "before" {
			load = manifests.PreviousChart
		} else {
			agent["connectionCounters"] = true
		}
		chart, err := load()
		if err != nil {
			t.Fatal(err)
		}
		values := manifests.Values{"image": manifests.Values{"tag": release}, "agent": agent}
		if err := r.Network.Fabric.Do(func() error { return change(chart, values) }); err != nil {
			t.Fatalf("going to the release %s: %v", release, err)
		}
		change = helm.Upgrade
	}
}

// kustomize does what make deploy does, in the release's tree.
func (r *rollout) kustomize(t *testing.T) func(release string) {
	t.Helper()
	root, err := lab.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	trees := map[string]string{"before": filepath.Join(root, "bin", "previous"), "now": root}
	return func(release string) {
		t.Helper()
		image := strings.TrimSuffix(manifests.Image, "latest") + release
		objects, err := exec.Command(filepath.Join(trees[release], "hack", "kustomize.sh"), "default", image).Output()
		if err != nil {
			t.Fatalf("building config/default of the release %s: %v", release, err)
		}
		r.kubectl(string(objects), "apply", "--server-side", "-f", "-")
	}
}

// openShop makes the entry point and its pods, and returns its Service once every node serves it.
func (r *rollout) openShop(t *testing.T) *corev1.Service {
	t.Helper()
	r.pods("web", 3, map[string]string{"app": "web"})
	r.pods("names", 3, map[string]string{"app": "names"}, lab.UDP(53))
	r.kubectl(shop, "apply", "-f", "-")
	r.kubectl("", "wait", "--for=condition=Programmed", "svcg/shop", "--timeout=60s")
	service, err := r.Kubernetes.CoreV1().Services(metav1.NamespaceDefault).Get(t.Context(), "shop", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return service
}

// expectFollowed checks that the release that runs now follows what happens, and that the Service is the same.
func (r *rollout) expectFollowed(t *testing.T, release string, was *corev1.Service) {
	t.Helper()
	name := "late-" + release
	r.pods(name, 1, map[string]string{"app": "web"})
	service, err := r.Kubernetes.CoreV1().Services(metav1.NamespaceDefault).Get(t.Context(), "shop", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if service.UID != was.UID || service.Spec.ClusterIP != was.Spec.ClusterIP ||
		service.Spec.Ports[0].NodePort != was.Spec.Ports[0].NodePort || service.Spec.Ports[1].NodePort != was.Spec.Ports[1].NodePort {
		t.Errorf("the Service was %+v, and is %+v", was.Spec, service.Spec)
	}
	for _, node := range r.Nodes() {
		r.answers(node.Host, lab.HostPort(node.IPv4, service.Spec.Ports[0].NodePort), name)
	}
}

// layout is how the agents' tables name what is constant in them.
func (r *rollout) layout(t *testing.T) string {
	t.Helper()
	listing, err := r.Nodes()[0].Output(t.Context(), "nft", "list", "table", "ip", "servicegroup")
	if err != nil {
		t.Fatal(err)
	}
	layout := regexp.MustCompile(`ServiceGroup layout [0-9a-f]+`).FindString(listing)
	if layout == "" {
		t.Fatalf("the table has no layout: %.500s", strings.TrimSpace(listing))
	}
	return layout
}
