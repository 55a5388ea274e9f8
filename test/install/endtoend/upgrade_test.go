package endtoend

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	chart "helm.sh/helm/v4/pkg/chart/v2"
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
	r := newRollout(t)
	release, err := manifests.NewRelease(r.ControlPlane.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	before, now := chartOf(t, manifests.PreviousChart), chartOf(t, manifests.Chart)
	if err := r.Network.Fabric.Do(func() error { return release.Install(before, valuesOf("before")) }); err != nil {
		t.Fatal(err)
	}
	r.await(t, "before")
	service := r.openShop(t)
	layout := r.layout(t)

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

	for _, step := range []struct {
		tag string
		to  *chart.Chart
	}{{"now", now}, {"before", before}} {
		if err := r.Network.Fabric.Do(func() error { return release.Upgrade(step.to, valuesOf(step.tag)) }); err != nil {
			t.Fatalf("going to the release %s: %v", step.tag, err)
		}
		r.await(t, step.tag)
		r.expectFollowed(t, step.tag, service)
		was := layout
		if layout = r.layout(t); layout == was {
			t.Errorf("the tables are laid out as by the other release, so the test shows less than it is to: %s", layout)
		}
	}
	traffic.expectAllAnswered(t)
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

func chartOf(t *testing.T, load func() (*chart.Chart, error)) *chart.Chart {
	t.Helper()
	loaded, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// valuesOf give the image a tag that says which release it is.
func valuesOf(tag string) manifests.Values {
	return manifests.Values{
		"image": manifests.Values{"tag": tag},
		"agent": manifests.Values{"clusterCIDRs": []any{lab.ClusterCIDRv4, lab.ClusterCIDRv6}},
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
