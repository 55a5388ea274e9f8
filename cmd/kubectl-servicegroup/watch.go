package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// addWatch gives a command the flag with which it goes on until the user has enough.
func addWatch(cmd *cobra.Command, watch *bool, usage string) {
	cmd.Flags().BoolVarP(watch, "watch", "w", false, usage)
}

// addInterval gives a command the time after which it looks again.
func addInterval(cmd *cobra.Command, interval *time.Duration, preset time.Duration, usage string) {
	cmd.Flags().DurationVar(interval, "interval", preset, usage)
	// It fails only for a flag that there is not.
	_ = cmd.RegisterFlagCompletionFunc("interval", words())
}

func validateInterval(interval time.Duration) error {
	if interval <= 0 {
		return misusef("--interval %s: give a time such as 2s", interval)
	}
	return nil
}

// changes tells that something may have changed. Each channel has room for one signal.
type changes struct {
	// any is raised for every change, ended when a watch has ended, so that all must be opened again.
	any, ended chan struct{}
}

func newChanges() *changes {
	return &changes{any: make(chan struct{}, 1), ended: make(chan struct{}, 1)}
}

func raise(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default: // one waits already
	}
}

// settle is how long changes are gathered, since one edit becomes many.
const settle = 200 * time.Millisecond

// follow prints what render makes, and again whenever it is another text, until the user has enough.
func (p *plugin) follow(ctx context.Context, format *output, open func(context.Context) (*changes, error), render func(context.Context) (string, error)) error {
	s, last := screen{plugin: p, format: format}, ""
	print := func() error {
		text, err := render(ctx)
		if err != nil || text == last {
			return err
		}
		last = text
		return s.draw(text)
	}
	for ctx.Err() == nil {
		if err := untilEnded(ctx, open, print); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// untilEnded prints at first and after every change, until a watch ends.
func untilEnded(ctx context.Context, open func(context.Context) (*changes, error), print func() error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	seen, err := open(ctx)
	if err != nil {
		return err
	}
	settled := time.NewTimer(0)
	defer settled.Stop()
	for {
		if err := print(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-seen.any:
		}
		settled.Reset(settle)
		select {
		case <-ctx.Done():
			return nil
		case <-settled.C:
		}
		select {
		case <-seen.ended:
			return nil
		default:
		}
	}
}

// screen is where the same thing is printed again and again.
type screen struct {
	*plugin
	format *output
	drawn  bool
}

// draw prints a text in place of the one before on a terminal, and otherwise behind it.
func (s *screen) draw(text string) error {
	switch {
	case s.format.isText() && isTerminal(s.Out):
		text = "\x1b[H\x1b[2J" + text
	case s.drawn && s.format.format() == "yaml":
		text = "---\n" + text
	case s.drawn:
		text = "\n" + text
	}
	s.drawn = true
	return s.print(text, nil)
}

// every tells after each interval that there may be something new.
func every(interval time.Duration) func(context.Context) (*changes, error) {
	return func(ctx context.Context) (*changes, error) {
		seen := newChanges()
		go func() {
			ticker := time.NewTicker(interval)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					raise(seen.any)
				}
			}
		}()
		return seen, nil
	}
}

// watchGroup tells of changes of what status and explain show.
func (c *cluster) watchGroup(name string) func(context.Context) (*changes, error) {
	named := metav1.ListOptions{Watch: true, FieldSelector: "metadata.name=" + name}
	sources := []struct {
		what string
		open func(context.Context) (watch.Interface, error)
	}{
		{"ServiceGroups", func(ctx context.Context) (watch.Interface, error) {
			return c.groups.Get().Namespace(c.namespace).Resource(servicegroups).VersionedParams(&named, metav1.ParameterCodec).Watch(ctx)
		}},
		{"Services", func(ctx context.Context) (watch.Interface, error) {
			return c.CoreV1().Services(c.namespace).Watch(ctx, named)
		}},
		{"EndpointSlices", func(ctx context.Context) (watch.Interface, error) {
			return c.DiscoveryV1().EndpointSlices(c.namespace).Watch(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
		}},
		{"pods", func(ctx context.Context) (watch.Interface, error) {
			return c.CoreV1().Pods(c.namespace).Watch(ctx, metav1.ListOptions{})
		}},
		{"leases", func(ctx context.Context) (watch.Interface, error) {
			return c.CoordinationV1().Leases(c.agentNamespace).Watch(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelAgent + "=true"})
		}},
	}
	return func(ctx context.Context) (*changes, error) {
		seen := newChanges()
		for _, source := range sources {
			w, err := source.open(ctx)
			if source.what == "leases" && apierrors.IsForbidden(err) {
				continue // what they say is left out
			}
			if err != nil {
				return nil, c.complain("watching "+source.what, err)
			}
			go seen.gather(ctx, w)
		}
		return seen, nil
	}
}

func (seen *changes) gather(ctx context.Context, w watch.Interface) {
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, more := <-w.ResultChan():
			if !more {
				raise(seen.ended)
			}
			raise(seen.any)
			if !more {
				return
			}
		}
	}
}
