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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/describe"
)

const topExample = `  # New connections a second to each group of the ServiceGroups of this namespace.
  kubectl servicegroup top

  # To each endpoint of web, again and again.
  kubectl servicegroup top web --by endpoint --watch

  # With the endpoints' pods, and the nodes on which connections come in.
  kubectl servicegroup top -A -l app=web --by endpoint -o wide`

type topOptions struct {
	*plugin
	all, again, noHeaders bool
	by, selector          string
	interval              time.Duration
	format                *output
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
			case len(args) == 1 && (o.all || o.selector != ""):
				return misusef("give either the name %s or -A and -l, not both", args[0])
			case !slices.Contains([]string{"port", "group", "endpoint"}, o.by):
				return misusef("--by %s: give port, group or endpoint", o.by)
			}
			if _, err := labels.Parse(o.selector); err != nil {
				return misusef("-l %s: %w", o.selector, err)
			}
			return validateInterval(o.interval)
		},
		ValidArgsFunction: p.completeGroups,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args) },
	}
	cmd.Flags().BoolVarP(&o.all, "all-namespaces", "A", false, "ServiceGroups of all namespaces")
	cmd.Flags().StringVarP(&o.selector, "selector", "l", "", "ServiceGroups with these labels, such as app=web")
	cmd.Flags().StringVar(&o.by, "by", "group", "what to add up by: port, group or endpoint")
	cmd.Flags().BoolVar(&o.noHeaders, "no-headers", false, "print no line with the names of the columns")
	addWatch(cmd, &o.again, "print it again after every interval")
	addInterval(cmd, &o.interval, 2*time.Second, "time over which connections are counted")
	o.format = newOutput(cmd, "wide")
	p.withCompletion(cmd, "selector", words())
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
	m := &measurement{topOptions: o, cluster: c, pods: pods, wanted: wanted}
	return o.show(ctx, o.format, o.again, every(o.interval), m.measure)
}

// measurement is top at work.
type measurement struct {
	*topOptions
	cluster *cluster
	pods    map[string]*corev1.Pod
	wanted  func(namespace, service string) bool
	// before is the last sample, and at when it was taken.
	before describe.Sample
	at     time.Time
}

// measure is what has come since the last sample, or within the first interval.
func (m *measurement) measure(ctx context.Context) (string, error) {
	if m.before == nil {
		if _, err := m.sample(ctx); err != nil {
			return "", err
		}
		timer := time.NewTimer(m.interval)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-timer.C:
		}
	}
	top, err := m.sample(ctx)
	if err != nil {
		return "", err
	}
	if err := m.namePods(ctx, m.cluster, &top); err != nil {
		return "", err
	}
	return render(m.format, "Top", top, func(t describe.Top) string { return t.Text(paint(m.Out), m.format.width(), !m.noHeaders) })
}

// sample is what has come since the sample before it.
func (m *measurement) sample(ctx context.Context) (describe.Top, error) {
	after, silent, err := m.cluster.sample(ctx, m.pods)
	if err != nil {
		return describe.Top{}, err
	}
	now := time.Now()
	top := describe.Rates(m.before, after, now.Sub(m.at).Seconds(), describe.By(m.by), m.wanted)
	top.Silent = silent
	m.before, m.at = after, now
	return top, nil
}

// namePods has endpoints named where they are shown.
func (o *topOptions) namePods(ctx context.Context, c *cluster, top *describe.Top) error {
	if o.by != string(describe.ByEndpoint) || o.format.format() == "" {
		return nil
	}
	written, err := c.DiscoveryV1().EndpointSlices(o.namespace(c)).List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelServiceGroup})
	if err != nil {
		return c.complain("listing EndpointSlices", err)
	}
	top.NamePods(written.Items)
	return nil
}

// namespace is that whose ServiceGroups are shown, empty for all.
func (o *topOptions) namespace(c *cluster) string {
	if o.all {
		return ""
	}
	return c.namespace
}

// wanted says which Services to show: those of ServiceGroups, or of the one that was named.
func (o *topOptions) wanted(ctx context.Context, c *cluster, args []string) (func(namespace, service string) bool, error) {
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
	groups, err := c.listGroups(ctx, o.namespace(c), o.selector)
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
