package endtoend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/image"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

func TestMain(m *testing.M) {
	// Endpoints are deprecated, and what the operator deletes of a Service that it takes over.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	lab.Main(m)
}

// bound is how long the cluster may take to follow a change.
const bound = time.Minute

// installation is a cluster with the project installed.
type installation struct {
	*lab.Lab
	t *testing.T
	// reader is the token of one who may read the metrics.
	reader string
	// image is what the pods run; without one it is binary, or what make build built.
	image  *image.Image
	binary string
}

// await looks until check has no complaint.
func await(t *testing.T, what string, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		attempt, done := context.WithTimeout(ctx, 5*time.Second)
		err := check(attempt)
		done()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waited %s in vain until %s: %v", bound, what, err)
		}
	}
}

// kubectl runs kubectl as administrator, with this on its standard input.
func (i *installation) kubectl(input string, args ...string) {
	i.t.Helper()
	cmd, err := i.ControlPlane.Kubectl(i.t.Context(), args...)
	if err != nil {
		i.t.Fatal(err)
	}
	cmd.Stdin = strings.NewReader(input)
	var out []byte
	// kubectl runs where the API server is.
	if err := i.Network.Fabric.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		i.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// make runs a target of the Makefile against the lab's cluster.
func (i *installation) make(target string) {
	i.t.Helper()
	root, err := lab.ModuleRoot()
	if err != nil {
		i.t.Fatal(err)
	}
	kubectl, err := i.ControlPlane.Kubectl(context.Background())
	if err != nil {
		i.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, "make", "-C", root, target, "KUBECTL="+kubectl.Path)
	cmd.WaitDelay = time.Second // for what make started
	cmd.Env = kubectl.Env
	var out []byte
	if err := i.Network.Fabric.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		i.t.Fatalf("make %s: %v\n%s", target, err, out)
	}
}

// undeploy checks that make undeploy leaves the CRD and nothing else.
func (i *installation) undeploy() {
	i.t.Helper()
	if i.t.Failed() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background()) // the test's own has ended
	defer cancel()
	go i.endPods(ctx)
	i.make("undeploy")
	accounts, err := i.Kubernetes.CoreV1().ServiceAccounts(manifests.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil || len(accounts.Items) > 0 {
		i.t.Errorf("make undeploy left %d service accounts (%v)", len(accounts.Items), err)
	}
	roles, err := i.Kubernetes.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	for _, role := range roles.Items {
		if strings.HasPrefix(role.Name, "servicegroup-") {
			i.t.Errorf("make undeploy left the ClusterRole %s", role.Name)
		}
	}
	resources, err := i.Kubernetes.Discovery().ServerResourcesForGroupVersion("net.servicegroup.dev/v1alpha1")
	if err != nil || len(resources.APIResources) == 0 {
		i.t.Errorf("make undeploy took the CRD away: %v", err)
	}
}

// endPods plays the kubelet for pods that are to end.
func (i *installation) endPods(ctx context.Context) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for ; ctx.Err() == nil; <-ticker.C {
		pods, err := i.Kubernetes.CoreV1().Pods(manifests.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			continue
		}
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp != nil {
				// What fails is tried again.
				_ = i.Kubernetes.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
			}
		}
	}
}

// installers are the ways to install; each is given arguments that the lab's network needs.
var installers = []struct {
	name     string
	profiles bool
	install  func(*installation)
}{
	{"kustomize", false, func(i *installation) {
		i.make("deploy")
		i.t.Cleanup(func() { i.undeploy() })
	}},
	// In place of kube-proxy, and with the admission policies in force.
	{"Helm", true, func(i *installation) {
		chart, err := manifests.Chart()
		if err != nil {
			i.t.Fatal(err)
		}
		release, err := manifests.NewRelease(i.ControlPlane.Kubeconfig())
		if err != nil {
			i.t.Fatal(err)
		}
		if err := i.Network.Fabric.Do(func() error {
			return release.Install(chart, manifests.Values{
				"mode": "all", "apiServer": manifests.Values{"host": i.Network.Fabric.IPv4.String(), "port": 6443},
				"manager":  manifests.Values{"pprofAddress": "127.0.0.1:6060"},
				"policies": manifests.Values{"enabled": true}, "log": manifests.Values{"format": "json", "verbosity": 1},
				"agent": manifests.Values{"clusterCIDRs": []any{lab.ClusterCIDRv4, lab.ClusterCIDRv6}, "connectionCounters": true},
			})
		}); err != nil {
			i.t.Fatalf("installing the chart: %v", err)
		}
	}},
}

// TestInstallAndServe installs both ways, serves with exactly the RBAC shipped, and compares the rights
// used in both runs with those granted.
func TestInstallAndServe(t *testing.T) {
	lab.Require(t)
	used, granted, metrics := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, installer := range installers {
		t.Run(installer.name, func(t *testing.T) {
			i := newInstallation(t)
			installer.install(i)
			i.runImage()
			i.reader = i.newReader()
			managers, agents := i.runs()
			i.expectConfined(managers[0], "65532", 0)
			i.expectConfined(agents[0], "0", netAdmin)
			i.serve()
			i.selftest()
			i.expectWithinLimits(managers[0])
			i.expectWithinLimits(agents[0])
			t.Run("limits in force", func(t *testing.T) {
				t.Skip("SKIPPED: the lab has no cgroups of its own, so nothing bounds the memory of the pods, nor gives them the CPU they ask for")
			})
			leader := i.leader(managers)
			i.addMetrics(metrics, leader, agents[0])
			i.expectProfiles(leader, installer.profiles)
			if err := leader.Stop(); err != nil {
				t.Fatal(err)
			}
			i.followAfterwards()
			rights := i.granted()
			maps.Copy(granted, rights)
			maps.Copy(used, i.used(rights))
		})
	}
	if t.Failed() {
		return
	}
	expectMetrics(t, metrics)
	for _, right := range difference(used, granted) {
		t.Errorf("used and not granted: %s", right)
	}
	for _, right := range difference(granted, used) {
		if unused[right] == "" {
			t.Errorf("granted and not used: %s", right)
		}
	}
	for _, right := range difference(unused, granted) {
		t.Errorf("said to be granted and unused, and not granted: %s", right)
	}
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	l, err := lab.Start(t.Context(), lab.Options{
		ControlPlaneOptions: lab.ControlPlaneOptions{
			WithoutCRDs: true, AuditLog: true, DualStack: true,
			APIServerArgs: []string{"--enable-admission-plugins=OwnerReferencesPermissionEnforcement"},
		},
		Nodes: 2,
	})
	if err != nil {
		t.Fatalf("starting the lab: %v", err)
	}
	i := &installation{Lab: l, t: t}
	t.Cleanup(func() {
		if t.Failed() {
			for _, process := range l.ControlPlane.Processes() {
				if !strings.HasPrefix(process.Name, "servicegroup-") {
					continue
				}
				t.Logf("the end of the log of %s:\n%s", process.Name, process.Tail())
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	// The policies know the controllers by their service accounts, as kubeadm runs them.
	if _, err := l.StartControllerManager(t.Context(), "--use-service-account-credentials"); err != nil {
		t.Fatal(err)
	}
	return i
}

// pods runs pods of a sample.
func (i *installation) pods(name string, n int, labels map[string]string, ports ...lab.Port) []*lab.Pod {
	i.t.Helper()
	pods, err := i.RunPods(i.t.Context(), lab.PodSpec{Name: name, Labels: labels, Ports: ports}, n)
	if err != nil {
		i.t.Fatal(err)
	}
	return pods
}

// answers waits until a new connection is answered by a pod whose name begins so.
func (i *installation) answers(from *lab.Host, address, name string) {
	i.t.Helper()
	await(i.t, address+" is answered by "+name, func(ctx context.Context) error {
		who, err := from.Ask(ctx, "tcp", address)
		if err == nil && !strings.HasPrefix(who, name) {
			err = fmt.Errorf("%q answers", who)
		}
		return err
	})
}

// serve makes the guestbook's entry point, uses it from a pod and from outside, changes it, and takes a
// Service over, so that every right is used.
func (i *installation) serve() {
	i.t.Helper()
	root, err := lab.ModuleRoot()
	if err != nil {
		i.t.Fatal(err)
	}
	sample, err := os.ReadFile(filepath.Join(root, "config", "samples", "guestbook.yaml"))
	if err != nil {
		i.t.Fatal(err)
	}
	i.pods("frontend", 2, map[string]string{"app": "guestbook", "tier": "frontend"})
	tomcats := i.pods("tomcat", 1, map[string]string{"app": "myweb"}, lab.TCP(8080))
	visitor := i.pods("visitor", 1, nil)[0]
	client, err := i.Client("client")
	if err != nil {
		i.t.Fatal(err)
	}
	i.kubectl(string(sample), "apply", "-f", "-")
	i.kubectl("", "wait", "--for=condition=Programmed", "svcg/guestbook", "--timeout=30s")
	vip := i.virtualIP("guestbook")
	i.answers(visitor.Host, lab.HostPort(vip, 80), "frontend")
	i.answers(visitor.Host, lab.HostPort(vip, 8080), "tomcat")
	for _, node := range i.Nodes() {
		i.answers(client, lab.HostPort(node.IPv4, 30001), "frontend")
		i.answers(client, lab.HostPort(node.IPv4, 30002), "tomcat")
	}
	if err := i.DeletePods(i.t.Context(), tomcats...); err != nil {
		i.t.Fatal(err)
	}
	i.exposeGroups()
	i.takeOver()
	i.kubectl("", "patch", "svcg", "guestbook", "--type=json",
		`--patch=[{"op":"remove","path":"/spec/ports/1"},{"op":"remove","path":"/spec/groups/1"}]`)
	await(i.t, "the slices of a group that is gone are deleted", func(ctx context.Context) error {
		list, err := i.Kubernetes.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: "net.servicegroup.dev/group=tomcat"})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("there are %d", len(list.Items))
		}
		return err
	})
}

// exposeGroups gives the groups Services of their own, and takes these away again.
func (i *installation) exposeGroups() {
	i.t.Helper()
	for _, exposed := range []bool{true, false} {
		i.kubectl("", "patch", "svcg", "guestbook", "--type=merge", fmt.Sprintf(`--patch={"spec":{"exposeGroups":%v}}`, exposed))
		await(i.t, fmt.Sprintf("exposeGroups is %v", exposed), func(ctx context.Context) error {
			_, err := i.Kubernetes.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "guestbook-frontend", metav1.GetOptions{})
			switch {
			case !exposed && err == nil:
				return errors.New("the group's Service is still there")
			case !exposed && apierrors.IsNotFound(err):
				return nil
			}
			return err
		})
	}
}

// takeOver turns a Service with a selector into a ServiceGroup.
func (i *installation) takeOver() {
	i.t.Helper()
	const manifest = `{apiVersion: v1, kind: Service, metadata: {name: old}, spec: {selector: {app: guestbook}, ports: [{name: http, port: 80}]}}`
	i.kubectl(manifest, "apply", "-f", "-")
	var service *corev1.Service
	await(i.t, "Kubernetes has made Endpoints", func(ctx context.Context) (err error) {
		if service, err = i.Kubernetes.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "old", metav1.GetOptions{}); err != nil {
			return err
		}
		_, err = i.Kubernetes.CoreV1().Endpoints(metav1.NamespaceDefault).Get(ctx, "old", metav1.GetOptions{}) //nolint:staticcheck // it is what the operator deletes
		return err
	})
	i.kubectl(fmt.Sprintf(`{apiVersion: net.servicegroup.dev/v1alpha1, kind: ServiceGroup,
  metadata: {name: old, annotations: {net.servicegroup.dev/adopt: %q}},
  spec: {groups: [{name: web, selector: {matchLabels: {app: guestbook}}}], ports: [{name: http, port: 80}]}}`, service.UID), "apply", "-f", "-")
	await(i.t, "the Service has no selector any more", func(ctx context.Context) error {
		service, err := i.Kubernetes.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "old", metav1.GetOptions{})
		if err == nil && len(service.Spec.Selector) > 0 {
			err = fmt.Errorf("it has %v", service.Spec.Selector)
		}
		return err
	})
}

// followAfterwards checks, with the leader gone, that the other manager follows changes.
func (i *installation) followAfterwards() {
	i.t.Helper()
	i.pods("late", 1, map[string]string{"app": "late"}, lab.TCP(80))
	i.kubectl(`{apiVersion: net.servicegroup.dev/v1alpha1, kind: ServiceGroup, metadata: {name: late},
  spec: {groups: [{name: web, selector: {matchLabels: {app: late}}}], ports: [{name: http, port: 80}]}}`, "apply", "-f", "-")
	i.kubectl("", "wait", "--for=condition=Programmed", "svcg/late", "--timeout=60s")
	i.answers(i.Nodes()[0].Host, lab.HostPort(i.virtualIP("late"), 80), "late")
	await(i.t, "what Kubernetes made for the old Service is gone", func(ctx context.Context) error {
		list, err := i.Kubernetes.CoreV1().Endpoints(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=old"}) //nolint:staticcheck // as above
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("there is an Endpoints object")
		}
		return err
	})
	i.kubectl("", "delete", "svcg", "--all", "--cascade=foreground", "--timeout=60s")
}

func (i *installation) virtualIP(name string) netip.Addr {
	i.t.Helper()
	service, err := i.Kubernetes.CoreV1().Services(metav1.NamespaceDefault).Get(i.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	return netip.MustParseAddr(service.Spec.ClusterIP)
}
