package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/describe"
)

const topExample = `  # New connections a second to each group of the ServiceGroups of this namespace.
  kubectl servicegroup top

  # To each endpoint of web, again and again.
  kubectl servicegroup top web --by endpoint --watch`

type topOptions struct {
	*plugin
	all, watch bool
	by         string
	interval   time.Duration
	format     *output
}

func newTopCommand(p *plugin) *cobra.Command {
	o := &topOptions{plugin: p}
	cmd := &cobra.Command{
		Use:   "top [NAME]",
		Short: "Show new connections a second by ServiceGroup, port, group and endpoint",
		Long: "Show new connections a second by ServiceGroup, port, group and endpoint, added up over all nodes." +
			"\n\nThe agents count connections when they run with --connection-counters.",
		Example: topExample,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return misusef("name one ServiceGroup, or none for all")
			case o.interval <= 0:
				return misusef("--interval %s: give a time such as 2s", o.interval)
			case !slices.Contains([]string{"port", "group", "endpoint"}, o.by):
				return misusef("--by %s: give port, group or endpoint", o.by)
			}
			return o.format.validate()
		},
		ValidArgsFunction: p.completeGroups,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args) },
	}
	cmd.Flags().BoolVarP(&o.all, "all-namespaces", "A", false, "ServiceGroups of all namespaces")
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "print it again after every interval")
	cmd.Flags().StringVar(&o.by, "by", "group", "what to add up by: port, group or endpoint")
	cmd.Flags().DurationVar(&o.interval, "interval", 2*time.Second, "time over which connections are counted")
	o.format = newOutput(cmd)
	return p.withCompletion(cmd, "by", words("port", "group", "endpoint"))
}

func (o *topOptions) run(ctx context.Context, args []string) error {
	c, err := o.connect(debuggerRole)
	if err != nil {
		return err
	}
	wanted, err := o.wanted(ctx, c, args)
	if err != nil {
		return err
	}
	pods, err := c.agentPods(ctx)
	if err != nil {
		return err
	}
	before, _, err := c.sample(ctx, pods)
	if err != nil {
		return err
	}
	sampled := time.Now()
	timer := time.NewTicker(o.interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		after, silent, err := c.sample(ctx, pods)
		if err != nil {
			return err
		}
		now := time.Now()
		top := describe.Rates(before, after, now.Sub(sampled).Seconds(), describe.By(o.by), wanted)
		top.Silent = silent
		text, err := render(o.format, "Top", top, func(t describe.Top) string { return t.Text(paint(o.Out)) })
		if err != nil {
			return err
		}
		if o.watch && isTerminal(o.Out) {
			text = "\x1b[H\x1b[2J" + text
		}
		if _, err := fmt.Fprint(o.Out, text); err != nil || !o.watch {
			return err
		}
		before, sampled = after, now
	}
}

// wanted says which Services to show: those of ServiceGroups, or of the one that was named.
func (o *topOptions) wanted(ctx context.Context, c *cluster, args []string) (func(namespace, service string) bool, error) {
	namespace := c.namespace
	if o.all {
		namespace = ""
	}
	if len(args) == 1 {
		name, err := groupName(args[0])
		if err != nil {
			return nil, err
		}
		if _, err := c.group(ctx, name); err != nil {
			return nil, err
		}
		return func(ns, service string) bool { return ns == c.namespace && service == name }, nil
	}
	groups, err := c.listGroups(ctx, namespace)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for i := range groups {
		known[groups[i].Namespace+"/"+groups[i].Name] = true
	}
	return func(ns, service string) bool { return known[ns+"/"+service] }, nil
}

// sample asks every agent what it has counted. The error says that none has.
func (c *cluster) sample(ctx context.Context, pods map[string]*corev1.Pod) (describe.Sample, []string, error) {
	s := describe.Sample{}
	var mu sync.Mutex
	var silent []string
	askEach(pods, func(node string, pod *corev1.Pod) {
		var counted []agentapi.Connection
		err := c.ask(ctx, pod, &counted, "connections", "-o", "json")
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			silent = append(silent, err.Error())
			return
		}
		s[node] = counted
	})
	slices.Sort(silent)
	switch {
	case ctx.Err() != nil:
		return s, nil, ctx.Err()
	case len(pods) == 0:
		return s, nil, errors.New("there is no agent; kubectl servicegroup check looks at the installation")
	case len(s) == 0:
		return s, nil, fmt.Errorf("no agent tells of connections: %s", silent[0])
	}
	return s, silent, nil
}
