package endtoend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// program is a pod of the installation that runs.
type program struct {
	*lab.Process
	host    *lab.Host
	metrics int32 // port
	limits  corev1.ResourceList
}

// awaitPods waits until kube-controller-manager has made n pods of a component.
func (i *installation) awaitPods(component string, n int) []corev1.Pod {
	i.t.Helper()
	var pods []corev1.Pod
	await(i.t, fmt.Sprintf("there are %d pods of the %s", n, component), func(ctx context.Context) error {
		list, err := i.Kubernetes.CoreV1().Pods(manifests.Namespace).List(ctx, metav1.ListOptions{
			LabelSelector: "app.kubernetes.io/component=" + component,
		})
		if err != nil {
			return err
		}
		if pods = list.Items; len(pods) != n {
			return fmt.Errorf("there are %d", len(pods))
		}
		return nil
	})
	return pods
}

// node is the node that a DaemonSet's pod is for.
func nodeOf(pod corev1.Pod) string {
	if affinity := pod.Spec.Affinity; affinity != nil && affinity.NodeAffinity != nil {
		for _, term := range affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, field := range term.MatchFields {
				return field.Values[0]
			}
		}
	}
	return ""
}

// place plays the scheduler, and the part of the kubelet that gives the pod a network.
func (i *installation) place(pod corev1.Pod, node *lab.Node) *lab.Host {
	i.t.Helper()
	if err := i.Kubernetes.CoreV1().Pods(pod.Namespace).Bind(i.t.Context(), &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node.Name},
	}, metav1.CreateOptions{}); err != nil {
		i.t.Fatalf("binding %s: %v", pod.Name, err)
	}
	if pod.Spec.HostNetwork {
		return node.Host
	}
	workload, err := node.AddPod(pod.Name)
	if err != nil {
		i.t.Fatal(err)
	}
	return workload.Host
}

// start runs the container of a pod, with a token of its service account that is bound to the pod.
func (i *installation) start(pod corev1.Pod, node *lab.Node) program {
	i.t.Helper()
	host := i.place(pod, node)
	container := pod.Spec.Containers[0]
	port := map[string]int32{}
	for _, p := range container.Ports {
		port[p.Name] = p.ContainerPort
	}
	process, err := i.ControlPlane.RunCommand(i.t.Context(), host, pod.Name, i.command(pod, node), fmt.Sprintf(
		"http://127.0.0.1:%d%s", port["health"], container.ReadinessProbe.HTTPGet.Path))
	if err != nil {
		i.t.Fatalf("running %s: %v", pod.Name, err)
	}
	i.t.Cleanup(func() { _ = process.Stop() })
	return program{Process: process, host: host, metrics: port["metrics"], limits: container.Resources.Limits}
}

func (i *installation) token(account string, bound *authenticationv1.BoundObjectReference) string {
	i.t.Helper()
	request, err := i.Kubernetes.CoreV1().ServiceAccounts(manifests.Namespace).CreateToken(i.t.Context(), account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound}}, metav1.CreateOptions{})
	if err != nil {
		i.t.Fatalf("requesting a token of %s: %v", account, err)
	}
	return request.Status.Token
}

// reportReady reports as the kubelet does that a pod runs and is ready.
func (i *installation) reportReady(name string, host *lab.Host) {
	i.t.Helper()
	api := i.Kubernetes.CoreV1().Pods(manifests.Namespace)
	pod, err := api.Get(i.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: host.IPv4.String(), PodIPs: []corev1.PodIP{{IP: host.IPv4.String()}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	if _, err := api.UpdateStatus(i.t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		i.t.Fatal(err)
	}
}

// runs starts the managers and agents, and returns them.
func (i *installation) runs() (managers, agents []program) {
	i.t.Helper()
	nodes := i.Nodes()
	for n, pod := range i.awaitPods("manager", 2) {
		managers = append(managers, i.start(pod, nodes[n%len(nodes)]))
	}
	for _, pod := range i.awaitPods("agent", len(nodes)) {
		at := slices.IndexFunc(nodes, func(n *lab.Node) bool { return n.Name == nodeOf(pod) })
		if at < 0 {
			i.t.Fatalf("%s is for the node %q", pod.Name, nodeOf(pod))
		}
		agents = append(agents, i.start(pod, nodes[at]))
	}
	return managers, agents
}

// leader is the manager that says in its metrics that it holds the lease.
func (i *installation) leader(managers []program) program {
	i.t.Helper()
	var found program
	await(i.t, "a manager holds the lease", func(ctx context.Context) error {
		for _, manager := range managers {
			text, err := i.scrape(ctx, manager, i.reader)
			if err != nil {
				return err
			}
			if strings.Contains(text, `leader_election_master_status{name="servicegroup-manager"} 1`) {
				found = manager
				return nil
			}
		}
		return errors.New("none says so")
	})
	return found
}
