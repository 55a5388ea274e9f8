package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// agentSelector finds the agents' pods, however the installation is called.
const agentSelector = "app.kubernetes.io/name=servicegroup,app.kubernetes.io/component=agent"

// askTimeout bounds the wait for one agent.
const askTimeout = 30 * time.Second

// agentPods are the agents' pods, one for each node: the ready one, or the newest.
func (c *cluster) agentPods(ctx context.Context) (map[string]*corev1.Pod, error) {
	pods, err := c.CoreV1().Pods(c.agentNamespace).List(ctx, metav1.ListOptions{LabelSelector: agentSelector})
	if err != nil {
		return nil, c.complain("listing the agents' pods (name their namespace with --agent-namespace)", err)
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int {
		return cmp.Or(compareBool(plan.Ready(&a), plan.Ready(&b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time))
	})
	out := map[string]*corev1.Pod{}
	for i := range pods.Items {
		out[pods.Items[i].Spec.NodeName] = &pods.Items[i] // the last one wins
	}
	delete(out, "")
	return out, nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// ask runs a command of the agent's in its pod and decodes the JSON that it prints.
func (c *cluster) ask(ctx context.Context, pod *corev1.Pod, answer any, args ...string) error {
	out, err := c.exec(ctx, pod, append([]string{"/servicegroup", "agent"}, args...))
	var said refusal
	switch {
	case apierrors.IsForbidden(err):
		return c.complain("asking the agent of node "+pod.Spec.NodeName, err)
	case errors.As(err, &said):
		return fmt.Errorf("node %s: %w", pod.Spec.NodeName, said)
	case err != nil:
		return fmt.Errorf("the agent of node %s (pod %s/%s) does not answer: %w; see kubectl logs -n %s %s",
			pod.Spec.NodeName, pod.Namespace, pod.Name, err, pod.Namespace, pod.Name)
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return fmt.Errorf("the agent of node %s answers something that this plugin (%s) does not understand: %w; use the version of the cluster's", pod.Spec.NodeName, version, err)
	}
	return nil
}

func (c *cluster) exec(ctx context.Context, pod *corev1.Pod, command []string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer within %s", askTimeout))
	defer cancel()
	request := c.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: agentContainer(pod), Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	old, err := remotecommand.NewSPDYExecutor(c.config, "POST", request.URL())
	if err != nil {
		return nil, err
	}
	executor, err := remotecommand.NewWebSocketExecutor(c.config, "GET", request.URL().String())
	if err != nil {
		return nil, err
	}
	// As kubectl does, for API servers and proxies that know SPDY only.
	if executor, err = remotecommand.NewFallbackExecutor(executor, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}); err != nil {
		return nil, err
	}
	var out, errOut bytes.Buffer
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut}); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if said := strings.TrimSpace(errOut.String()); said != "" {
			return nil, refusal(strings.TrimPrefix(lastLine(said), "servicegroup: "))
		}
		return nil, cmp.Or(c.denied(ctx, pod), err)
	}
	return out.Bytes(), nil
}

// denied says that the user may not run commands in a pod, which a connection that was not upgraded does
// not tell from other reasons; nil if that is not why.
func (c *cluster) denied(ctx context.Context, pod *corev1.Pod) error {
	review, err := c.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: pod.Namespace, Name: pod.Name, Verb: "create", Resource: "pods", Subresource: "exec",
		}},
	}, metav1.CreateOptions{})
	if err == nil && !review.Status.Allowed {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "pods/exec"}, pod.Name,
			fmt.Errorf("you cannot create resource \"pods/exec\" in the namespace %q", pod.Namespace))
	}
	return nil // or nobody knows
}

// refusal is what a command said that failed in the agent's pod.
type refusal string

func (r refusal) Error() string { return string(r) }

func lastLine(text string) string { return text[strings.LastIndexByte(text, '\n')+1:] }

// agentContainer is the container of the agent's, should somebody have injected another one.
func agentContainer(pod *corev1.Pod) string {
	for _, container := range pod.Spec.Containers {
		if container.Name == "agent" {
			return container.Name
		}
	}
	return pod.Spec.Containers[0].Name
}
