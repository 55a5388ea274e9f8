package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/describe"
)

// kubectl asks a program of this name (and that of the plugin) what may follow; cobra answers the same
// question as a command of its own. (k8s.io/kubectl, pkg/cmd/plugin/plugin_completion.go)
const completes = "kubectl_complete-"

// commandLine is what was asked for under the name the program was called by.
func commandLine(args []string) []string {
	if strings.HasPrefix(filepath.Base(args[0]), completes) {
		return append([]string{"__complete"}, args[1:]...)
	}
	return args[1:]
}

// completionTimeout bounds what a user waits for after pressing the tabulator.
const completionTimeout = 3 * time.Second

// complete offers the names that list returns.
func (p *plugin) complete(cmd *cobra.Command, list func(ctx context.Context, c *cluster) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	c, err := p.connect(viewerRole)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	found, err := list(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

func (p *plugin) completeGroups(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.complete(cmd, groupNames)
}

func groupNames(ctx context.Context, c *cluster) ([]string, error) {
	all, err := c.listGroups(ctx, c.namespace, "")
	return names(all, func(sg *v1alpha1.ServiceGroup) string { return sg.Name }), err
}

// names are those of a list, as kubectl get has them.
func names[T any](list []T, name func(*T) string) []string {
	var out []string
	for i := range list {
		out = append(out, name(&list[i]))
	}
	return out
}

// completeRevisions offers the revisions of the ServiceGroup that is named.
func (p *plugin) completeRevisions(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.complete(cmd, func(ctx context.Context, c *cluster) ([]string, error) {
		name, err := groupName(args[0])
		if err != nil {
			return nil, err
		}
		history, err := c.history(ctx, name)
		if err != nil {
			return nil, err
		}
		return names(history.Revisions, func(r *describe.HistoryRecord) string { return strconv.FormatInt(r.Revision, 10) }), nil
	})
}

func (p *plugin) completePods(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, func(ctx context.Context, c *cluster) ([]string, error) {
		pods, err := c.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		return names(pods.Items, func(pod *corev1.Pod) string { return pod.Name }), nil
	})
}

func (p *plugin) completeNodes(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, func(ctx context.Context, c *cluster) ([]string, error) {
		nodes, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		return names(nodes.Items, func(node *corev1.Node) string { return node.Name }), nil
	})
}

func (p *plugin) completeNamespaces(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, func(ctx context.Context, c *cluster) ([]string, error) {
		namespaces, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		return names(namespaces.Items, func(namespace *corev1.Namespace) string { return namespace.Name }), nil
	})
}

// completeServices offers Services that convert takes: those that no ServiceGroup made.
func (p *plugin) completeServices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.complete(cmd, func(ctx context.Context, c *cluster) ([]string, error) {
		services, err := c.CoreV1().Services(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: "!" + v1alpha1.LabelServiceGroup})
		if err != nil {
			return nil, err
		}
		return names(services.Items, func(service *corev1.Service) string { return "svc/" + service.Name }), nil
	})
}

// completeGroupPorts offers NAME: and, behind it, the ports.
func (p *plugin) completeGroupPorts(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found, directive := p.complete(cmd, func(ctx context.Context, c *cluster) ([]string, error) {
		all, err := c.listGroups(ctx, c.namespace, "")
		var out []string
		for i := range all {
			name := all[i].Name + ":"
			if !strings.HasPrefix(typed, name) {
				out = append(out, name)
				continue
			}
			for _, port := range all[i].Spec.Ports {
				out = append(out, fmt.Sprintf("%s%d", name, port.Port))
				if port.Name != "" {
					out = append(out, name+port.Name)
				}
			}
		}
		return out, err
	})
	return found, directive | cobra.ShellCompDirectiveNoSpace
}

// completeClients offers who may connect: pods and, behind node/, nodes.
func (p *plugin) completeClients(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if !strings.HasPrefix(typed, "node/") {
		return p.completePods(cmd, args, typed)
	}
	nodes, directive := p.completeNodes(cmd, args, typed)
	for i := range nodes {
		nodes[i] = "node/" + nodes[i]
	}
	return nodes, directive
}

// completeConfig offers names of the kubeconfig.
func (p *plugin) completeConfig(names func(clientcmdapi.Config) []string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		config, err := p.config.ToRawKubeConfigLoader().RawConfig()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names(config), cobra.ShellCompDirectiveNoFileComp
	}
}

func contextNames(config clientcmdapi.Config) []string {
	return slices.Sorted(maps.Keys(config.Contexts))
}
func clusterNames(config clientcmdapi.Config) []string {
	return slices.Sorted(maps.Keys(config.Clusters))
}
func userNames(config clientcmdapi.Config) []string {
	return slices.Sorted(maps.Keys(config.AuthInfos))
}

// words completes a flag that takes one of a few words.
func words(list ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
}

// withCompletion completes the values of a flag.
func (p *plugin) withCompletion(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) *cobra.Command {
	// It fails only for a flag that there is not, which a test would show.
	_ = cmd.RegisterFlagCompletionFunc(flag, complete)
	return cmd
}
