package endtoend

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// shop are entry points that both releases know, and a Service that agents in place of kube-proxy serve.
const shop = `
{apiVersion: net.servicegroup.dev/v1alpha1, kind: ServiceGroup, metadata: {name: shop}, spec: {
  type: NodePort, ipFamilyPolicy: RequireDualStack,
  groups: [{name: web, selector: {matchLabels: {app: web}}}, {name: names, selector: {matchLabels: {app: names}}}],
  ports: [
    {name: http, port: 80, backends: [{group: web}]},
    {name: dns, port: 53, protocol: UDP, backends: [{group: names}]}]}}
---
{apiVersion: net.servicegroup.dev/v1alpha1, kind: ServiceGroup, metadata: {name: regulars}, spec: {
  sessionAffinity: ClientIP, ipFamilyPolicy: RequireDualStack,
  groups: [{name: web, selector: {matchLabels: {app: web}}}], ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: plain}, spec: {
  ipFamilyPolicy: RequireDualStack, selector: {app: web}, ports: [{name: http, port: 80}]}}`

// TestUpgradeUnderTraffic goes from the release before to this one and back, with the programs, charts, CRDs
// and tables of each, while clients make requests: none fails, and the entry point keeps its addresses.
func TestUpgradeUnderTraffic(t *testing.T) {
	lab.Require(t)
	for _, test := range []struct {
		name string
		way  func(*rollout, *testing.T) func(release string)
		// all says that the agents are in place of kube-proxy.
		all bool
	}{
		{"Helm", func(r *rollout, t *testing.T) func(string) { return r.helm(t, "groups") }, false},
		{"Helm, in place of kube-proxy, with helm rollback", func(r *rollout, t *testing.T) func(string) { return r.helm(t, "all") }, true},
		{"kustomize", (*rollout).kustomize, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRollout(t)
			layouts := r.thereAndBack(t, test.way(r, t), test.all)
			if layouts["before"] == layouts["now"] {
				t.Errorf("both releases lay out the tables as %s", layouts["now"])
			}
		})
	}
}

// thereAndBack installs the release before, and goes to this one and back while clients make requests. It
// returns how each laid out the tables.
func (r *rollout) thereAndBack(t *testing.T, apply func(release string), all bool) map[string]string {
	t.Helper()
	apply("before")
	r.await(t, "before")
	service := r.openShop(t)
	kept := r.openRefused(t, service)
	layouts := map[string]string{"before": r.layout(t)}

	traffic := r.visit(t, service, all)
	ways := []string{"now", "before"}
	for _, release := range ways {
		apply(release)
		r.await(t, release)
		r.expectFollowed(t, release, service)
		r.expectKept(t, release, kept)
		layouts[release] = r.layout(t)
	}
	traffic.expectAllAnswered(t)
	// A layout that keeps clients in another form forgets them, once in each change of the release.
	traffic.expectLoyal(t, len(ways))
	return layouts
}

// visit makes requests in both families: by the virtual IPs from a pod, and by each node's NodePorts from
// outside.
func (r *rollout) visit(t *testing.T, shop *corev1.Service, all bool) *traffic {
	t.Helper()
	traffic, ctx := newTraffic(t)
	visitor := r.pods("visitor", 1, nil)[0]
	client, err := r.Client("client")
	if err != nil {
		t.Fatal(err)
	}
	for family, vip := range shop.Spec.ClusterIPs {
		for _, port := range shop.Spec.Ports {
			network := strings.ToLower(string(port.Protocol))
			address := net.JoinHostPort(vip, fmt.Sprint(port.Port))
			traffic.connect(ctx, visitor.Host, network, address)
			traffic.hold(t, ctx, visitor.Host, network, address)
			for _, node := range r.Nodes() {
				address := lab.HostPort(node.Addresses()[family], port.NodePort)
				traffic.connect(ctx, client, network, address)
				traffic.hold(t, ctx, client, network, address)
			}
		}
		traffic.stick(ctx, visitor.Host, net.JoinHostPort(r.service(t, "regulars").Spec.ClusterIPs[family], "80"))
		if all {
			traffic.connect(ctx, visitor.Host, "tcp", net.JoinHostPort(r.service(t, "plain").Spec.ClusterIPs[family], "80"))
		}
	}
	return traffic
}

func (r *rollout) service(t *testing.T, name string) *corev1.Service {
	t.Helper()
	service, err := r.Kubernetes.CoreV1().Services(metav1.NamespaceDefault).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return service
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

// helm installs with the release's chart, then upgrades. From agents in place of kube-proxy it goes back with
// helm rollback, which applies what Helm has kept, and else with the older chart.
func (r *rollout) helm(t *testing.T, mode string) func(release string) {
	t.Helper()
	helm, err := manifests.NewRelease(r.ControlPlane.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	change := helm.Install
	upgrade := helm.Upgrade
	if mode == "all" {
		upgrade = func(of *chart.Chart, values manifests.Values) error {
			if values["image"].(manifests.Values)["tag"] == "before" {
				return helm.Rollback(1)
			}
			return helm.Upgrade(of, values)
		}
	}
	return func(release string) {
		t.Helper()
		load := manifests.Chart
		agent := manifests.Values{"clusterCIDRs": []any{lab.ClusterCIDRv4, lab.ClusterCIDRv6}}
		if release == "before" {
			load = manifests.PreviousChart
		} else {
			// So the layout of the tables is another whatever else changed.
			agent["connectionCounters"] = true
		}
		chart, err := load()
		if err != nil {
			t.Fatal(err)
		}
		values := manifests.Values{
			"image": manifests.Values{"tag": release}, "agent": agent, "mode": mode,
			"apiServer": manifests.Values{"host": r.Network.Fabric.IPv4.String(), "port": 6443},
		}
		if err := r.Network.Fabric.Do(func() error { return change(chart, values) }); err != nil {
			t.Fatalf("going to the release %s: %v", release, err)
		}
		change = upgrade
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

const namesPods = 3

// openShop makes the entry point and its pods, and returns its Service once every node serves it.
func (r *rollout) openShop(t *testing.T) *corev1.Service {
	t.Helper()
	r.pods("web", 3, map[string]string{"app": "web"})
	r.pods("names", namesPods, map[string]string{"app": "names"}, lab.UDP(53))
	r.kubectl(shop, "apply", "-f", "-")
	r.kubectl("", "wait", "--for=condition=Programmed", "svcg/shop", "svcg/regulars", "--timeout=60s")
	return r.service(t, "shop")
}

// expectFollowed checks that the release that runs now follows what happens, and that the Service is the same.
func (r *rollout) expectFollowed(t *testing.T, release string, was *corev1.Service) {
	t.Helper()
	name := "late-" + release
	r.pods(name, 1, map[string]string{"app": "web"})
	service := r.service(t, "shop")
	if service.UID != was.UID || !slices.Equal(service.Spec.ClusterIPs, was.Spec.ClusterIPs) ||
		service.Spec.Ports[0].NodePort != was.Spec.Ports[0].NodePort || service.Spec.Ports[1].NodePort != was.Spec.Ports[1].NodePort {
		t.Errorf("the Service was %+v, and is %+v", was.Spec, service.Spec)
	}
	for _, node := range r.Nodes() {
		for _, address := range node.Addresses() {
			r.answers(node.Host, lab.HostPort(address, service.Spec.Ports[0].NodePort), name)
		}
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
