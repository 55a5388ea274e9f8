package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	names, err := list(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (p *plugin) completeGroups(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.complete(cmd, groupNames)
}

func groupNames(ctx context.Context, c *cluster) ([]string, error) {
	all, err := c.listGroups(ctx, c.namespace)
	var out []string
	for i := range all {
		out = append(out, all[i].Name)
	}
	return out, err
}

func (p *plugin) completePods(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, func(ctx context.Context, c *cluster) ([]string, error) {
		pods, err := c.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		var out []string
		for i := range pods.Items {
			out = append(out, pods.Items[i].Name)
		}
		return out, nil
	})
}

func (p *plugin) completeNodes(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, func(ctx context.Context, c *cluster) ([]string, error) {
		nodes, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		var out []string
		for i := range nodes.Items {
			out = append(out, nodes.Items[i].Name)
		}
		return out, nil
	})
}

// withCompletion completes the values of a flag.
func (p *plugin) withCompletion(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) *cobra.Command {
	// It fails only for a flag that there is not, which a test would show.
	_ = cmd.RegisterFlagCompletionFunc(flag, complete)
	return cmd
}
