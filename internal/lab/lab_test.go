package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestLab shares one lab between its parts: starting it is what takes time.
func TestLab(t *testing.T) {
	Require(t)
	l, err := Start(t.Context(), Options{
		ControlPlaneOptions: ControlPlaneOptions{DualStack: true},
		Nodes:               3, Zones: []string{"a", "b"},
		ControllerManager: true, CoreDNS: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("nodes", func(t *testing.T) { testNodeObjects(t, l) })
	t.Run("a pod's life", func(t *testing.T) { testPodLife(t, l) })
	t.Run("kube-controller-manager", func(t *testing.T) { testControllerManager(t, l) })
	for i, mode := range []string{"iptables", "nftables"} {
		t.Run("kube-proxy "+mode, func(t *testing.T) { testKubeProxy(t, l, l.Nodes()[i], mode) })
	}
	t.Run("CoreDNS", func(t *testing.T) { testCoreDNS(t, l) })
}

func testNodeObjects(t *testing.T, l *Lab) {
	nodes, err := l.Kubernetes.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	zones := []string{}
	for i, node := range nodes.Items {
		zones = append(zones, node.Labels[corev1.LabelTopologyZone])
		if len(node.Spec.PodCIDRs) != 2 || len(node.Spec.Taints) != 0 || node.Status.Conditions[0].Status != corev1.ConditionTrue {
			t.Errorf("%s is not as a kubelet would have it: %+v", node.Name, node)
		}
		if a := node.Status.Addresses; len(a) != 3 || a[1].Address != l.Nodes()[i].IPv4.String() || a[2].Address != l.Nodes()[i].IPv6.String() {
			t.Errorf("%s has addresses %v", node.Name, a)
		}
	}
	if want := []string{"a", "b", ""}; !slices.Equal(zones, want) {
		t.Errorf("zones are %q, want %q", zones, want)
	}
}

func testPodLife(t *testing.T, l *Lab) {
	pod, err := l.RunPod(t.Context(), PodSpec{Namespace: "life", Name: "mayfly", Node: "node2", NotReady: true})
	if err != nil {
		t.Fatal(err)
	}
	pods := l.Kubernetes.CoreV1().Pods("life")
	expect := func(ready, terminating bool) {
		t.Helper()
		object, err := pods.Get(t.Context(), "mayfly", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if isReady(object) != ready || object.Status.ContainerStatuses[0].Ready != ready || (object.DeletionTimestamp != nil) != terminating {
			t.Errorf("want ready=%t terminating=%t, got %+v", ready, terminating, object)
		}
		if object.Spec.NodeName != "node2" || object.Status.PodIP != pod.IPv4.String() || len(object.Status.PodIPs) != 2 {
			t.Errorf("the Pod object is not honest: %+v", object)
		}
		if answer, err := l.Nodes()[0].Ask(t.Context(), "tcp", HostPort(pod.IPv4, 80)); answer != "life.mayfly" {
			t.Errorf("the pod answers %q, %v", answer, err)
		}
	}
	expect(false, false)
	must(t, pod.SetReady(t.Context(), true))
	expect(true, false)
	must(t, pod.Terminate(t.Context()))
	expect(true, true)
	must(t, l.DeletePod(t.Context(), pod))
	if _, err := pods.Get(t.Context(), "mayfly", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after its end the Pod object is there: %v", err)
	}
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func testControllerManager(t *testing.T, l *Lab) {
	labels := map[string]string{"app": "made-by-deployment"}
	_, err := l.Kubernetes.AppsV1().Deployments("default").Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "made"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
			},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	must(t, poll(t.Context(), 20*time.Second, nil, func(ctx context.Context) error {
		pods, err := l.Kubernetes.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=made-by-deployment"})
		if err == nil && len(pods.Items) != 1 {
			err = fmt.Errorf("the Deployment has %d pods", len(pods.Items))
		}
		return err
	}))
}

// runService runs two pods and a Service for them, and returns the Service.
func runService(t *testing.T, l *Lab, name string) *corev1.Service {
	t.Helper()
	labels := map[string]string{"app": name}
	pods, err := l.RunPods(t.Context(), PodSpec{Name: name, Labels: labels, Ports: []Port{TCP(8080)}}, 2)
	must(t, err)
	t.Cleanup(func() { must(t, l.DeletePods(context.WithoutCancel(t.Context()), pods...)) })
	service, err := l.Kubernetes.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{
			Port: 80, TargetPort: intstr.FromInt32(8080),
		}}},
	}, metav1.CreateOptions{})
	must(t, err)
	return service
}

func testKubeProxy(t *testing.T, l *Lab, node *Node, mode string) {
	if _, err := exec.LookPath("iptables"); mode == "iptables" && err != nil && os.Getenv("CI") != "true" {
		t.Skip("SKIPPED: install the package iptables")
	}
	service := runService(t, l, mode)
	proxy, err := l.StartKubeProxy(t.Context(), node, mode)
	must(t, err)
	// Both ends of what the proxy does: the node's own packets and a pod's.
	pod, err := l.RunPod(t.Context(), PodSpec{Name: "asks-" + mode, Node: node.Name})
	must(t, err)
	for _, host := range []*Host{node.Host, pod.Host} {
		address := net.JoinHostPort(service.Spec.ClusterIP, "80")
		must(t, proxy.await(t.Context(), func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_, err := host.Ask(ctx, "tcp", address)
			return err
		}))
		tally := host.Tally(t.Context(), "tcp", address, 50)
		if len(tally.Answers) != 2 || tally.Failed != 0 {
			t.Errorf("from %s: %+v", host.Name, tally)
		}
	}
	must(t, proxy.Stop())
}

func testCoreDNS(t *testing.T, l *Lab) {
	service := runService(t, l, "named")
	pod, err := l.RunPod(t.Context(), PodSpec{Name: "asks-dns", Node: "node1"})
	must(t, err)
	for _, from := range []*Host{l.Network.Fabric, l.Nodes()[1].Host, pod.Host} {
		must(t, poll(t.Context(), 20*time.Second, nil, func(ctx context.Context) error {
			addresses, err := l.Resolver(from).LookupHost(ctx, "named.default.svc.cluster.local.")
			if err == nil && !slices.Equal(addresses, []string{service.Spec.ClusterIP}) {
				err = fmt.Errorf("%s is told %v", from.Name, addresses)
			}
			return err
		}))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
