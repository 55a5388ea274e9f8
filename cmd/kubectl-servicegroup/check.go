package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/describe"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

const (
	// schemaAnnotation is on the CRD; it is counted up with every change of the API.
	schemaAnnotation = "net.servicegroup.dev/schema-revision"
	schemaRevision   = "1"

	managerSelector = "app.kubernetes.io/name=servicegroup,app.kubernetes.io/component=manager"

	// maxTargets bounds what the agents connect to, and askParallelism how many are asked at a time.
	maxTargets     = 50
	askParallelism = 16
)

const checkExample = `  # Once; the exit status says whether all is well.
  kubectl servicegroup check

  # While it is installed or upgraded: every node, again whenever something changes.
  kubectl servicegroup check -o wide --watch`

func newCheckCommand(p *plugin) *cobra.Command {
	var again bool
	var interval time.Duration
	var format *output
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the installation: manager, agents, kernels, other proxies, and connections end to end",
		Long: "Check the installation. Every agent is asked what its kernel can do and who else has rules or listens there, and connects from its node to" +
			" the ready TCP ports of ServiceGroups.\n\nIt exits with status 1 when something fails.",
		Example:           checkExample,
		ValidArgsFunction: cobra.NoFileCompletions,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misusef("check takes no name: it checks the installation")
			}
			return validateInterval(interval)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.connect(debuggerRole)
			if err != nil {
				return err
			}
			failures := 0
			err = p.show(cmd.Context(), format, again, every(interval), func(ctx context.Context) (string, error) {
				in, err := c.inspect(ctx)
				if err != nil {
					return "", err
				}
				in.EachNode = format.width() == describe.Wide
				check := describe.CheckOf(in)
				failures = check.Failures
				return render(format, "Check", check, func(c describe.Check) string { return c.Text(paint(p.Out)) })
			})
			if err == nil && failures > 0 && !again {
				return errFailed
			}
			return err
		},
	}
	format = newOutput(cmd, "wide")
	addWatch(cmd, &again, "look again after every interval, and print it again whenever it changes")
	addInterval(cmd, &interval, 10*time.Second, "time after which --watch looks again")
	return cmd
}

// inspect looks at everything that the check judges.
func (c *cluster) inspect(ctx context.Context) (*describe.Installation, error) {
	in := &describe.Installation{Version: version, SchemaRevision: schemaRevision, Agents: map[string]describe.Agent{}, Targets: map[string]string{}}
	groups, err := c.listGroups(ctx, "", "")
	if err != nil {
		return nil, err
	}
	in.Groups = len(groups)
	for i := range groups {
		if isNeglected(&groups[i]) {
			in.Neglected = append(in.Neglected, groups[i].Namespace+"/"+groups[i].Name)
		}
		addTargets(in, &groups[i])
	}
	nodes, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, c.complain("listing nodes", err)
	}
	for i := range nodes.Items {
		if describe.WantsAgent(&nodes.Items[i]) {
			in.Nodes = append(in.Nodes, nodes.Items[i].Name)
		}
	}
	if in.Schema, err = c.schemaRevision(ctx); err != nil {
		in.Unread = append(in.Unread, "the CRD: "+err.Error())
	}
	managers, err := c.CoreV1().Pods(c.agentNamespace).List(ctx, metav1.ListOptions{LabelSelector: managerSelector})
	if err != nil {
		return nil, c.complain("listing the manager's pods", err)
	}
	for i := range managers.Items {
		in.Managers = append(in.Managers, c.inspectManager(ctx, &managers.Items[i]))
	}
	pods, err := c.agentPods(ctx)
	if err != nil {
		return nil, err
	}
	c.inspectAgents(ctx, pods, in)
	return in, nil
}

// isNeglected says whether the manager has not looked at a ServiceGroup since it changed. Of a paused one
// it says no more than that.
func isNeglected(sg *v1alpha1.ServiceGroup) bool {
	return !slices.ContainsFunc(sg.Status.Conditions, func(c metav1.Condition) bool {
		return (c.Type == v1alpha1.ConditionAccepted || c.Type == v1alpha1.ConditionPaused) && c.ObservedGeneration == sg.Generation
	})
}

// addTargets adds the virtual IPs of a ServiceGroup's TCP ports, if all of its ports are ready and every
// node may use them.
func addTargets(in *describe.Installation, sg *v1alpha1.ServiceGroup) {
	ready := slices.ContainsFunc(sg.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionReady && c.Status == metav1.ConditionTrue
	})
	policy := sg.Spec.InternalTrafficPolicy
	if !ready || policy != nil && *policy == corev1.ServiceInternalTrafficPolicyLocal {
		return
	}
	for _, ip := range sg.Status.ClusterIPs {
		for _, port := range sg.Status.Ports {
			if net.ParseIP(ip) != nil && port.Protocol == corev1.ProtocolTCP && len(in.Targets) < maxTargets {
				in.Targets[net.JoinHostPort(ip, fmt.Sprint(port.Port))] = sg.Namespace + "/" + sg.Name
			}
		}
	}
}

func (c *cluster) schemaRevision(ctx context.Context) (string, error) {
	client, err := dynamic.NewForConfig(c.config)
	if err != nil {
		return "", err
	}
	var crd *unstructured.Unstructured
	resource := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	if crd, err = client.Resource(resource).Get(ctx, servicegroups+"."+v1alpha1.GroupVersion.Group, metav1.GetOptions{}); err != nil {
		return "", c.complain("getting the CRD", err)
	}
	return crd.GetAnnotations()[schemaAnnotation], nil
}

func (c *cluster) inspectManager(ctx context.Context, pod *corev1.Pod) describe.Manager {
	m := describe.Manager{Pod: pod.Namespace + "/" + pod.Name, Ready: plan.Ready(pod)}
	if out, err := c.exec(ctx, pod, []string{"/servicegroup", "--version"}); err == nil && m.Ready {
		m.Version = strings.TrimPrefix(strings.TrimSpace(string(out)), "servicegroup version ")
	}
	return m
}

// inspectAgents asks all agents, some at a time.
func (c *cluster) inspectAgents(ctx context.Context, pods map[string]*corev1.Pod, in *describe.Installation) {
	args := []string{"check", "-o", "json", "--connect", strings.Join(slices.Sorted(maps.Keys(in.Targets)), ",")}
	var mu sync.Mutex
	askEach(pods, func(node string, pod *corev1.Pod) {
		agent := describe.Agent{Pod: pod.Namespace + "/" + pod.Name, Ready: plan.Ready(pod)}
		check := &agentapi.NodeCheck{}
		if err := c.ask(ctx, pod, check, args...); err != nil {
			agent.Silence = err.Error()
		} else {
			agent.Check = check
		}
		mu.Lock()
		defer mu.Unlock()
		in.Agents[node] = agent
	})
}

// askEach calls ask for each node's agent, some at a time.
func askEach(pods map[string]*corev1.Pod, ask func(node string, pod *corev1.Pod)) {
	slots := make(chan struct{}, askParallelism)
	var all sync.WaitGroup
	for node, pod := range pods {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			ask(node, pod)
		})
	}
	all.Wait()
}
