package main

import (
	"context"
	"fmt"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// changes tells that something may have changed.
type changes struct {
	// any has room for one signal; closed says that a watch has ended and all must be opened again.
	any, closed chan struct{}
	stop        context.CancelFunc
}

// settle is how long changes are gathered, since one edit becomes many.
const settle = 200 * time.Millisecond

// show prints a text, and with again whenever it has changed, until the user has enough.
func (p *plugin) show(ctx context.Context, render func(context.Context) (string, error), again bool, open func(context.Context) (*changes, error)) error {
	last := ""
	print := func() error {
		text, err := render(ctx)
		if err != nil || text == last {
			return err
		}
		if again && isTerminal(p.Out) {
			text = "\x1b[H\x1b[2J" + text
		} else if last != "" {
			fmt.Fprintln(p.Out)
		}
		last = text
		_, err = fmt.Fprint(p.Out, text)
		return err
	}
	if !again {
		return print()
	}
	for ctx.Err() == nil {
		if err := p.follow(ctx, open, print); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// follow prints at first and after every change, until a watch ends.
func (p *plugin) follow(ctx context.Context, open func(context.Context) (*changes, error), print func() error) error {
	seen, err := open(ctx)
	if err != nil {
		return err
	}
	defer seen.stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := print(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-seen.closed:
			return nil
		case <-seen.any:
		}
		timer.Reset(settle)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
	}
}

// watchGroup tells of changes of what status shows.
func (c *cluster) watchGroup(ctx context.Context, name string) (*changes, error) {
	ctx, stop := context.WithCancel(ctx)
	seen := &changes{any: make(chan struct{}, 1), closed: make(chan struct{}, 1), stop: stop}
	named := metav1.ListOptions{Watch: true, FieldSelector: "metadata.name=" + name}
	for what, open := range map[string]func() (watch.Interface, error){
		"ServiceGroups": func() (watch.Interface, error) {
			return c.groups.Get().Namespace(c.namespace).Resource(servicegroups).VersionedParams(&named, metav1.ParameterCodec).Watch(ctx)
		},
		"Services": func() (watch.Interface, error) { return c.CoreV1().Services(c.namespace).Watch(ctx, named) },
		"EndpointSlices": func() (watch.Interface, error) {
			return c.DiscoveryV1().EndpointSlices(c.namespace).Watch(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
		},
		"leases": func() (watch.Interface, error) {
			return c.CoordinationV1().Leases(c.agentNamespace).Watch(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelAgent + "=true"})
		},
	} {
		w, err := open()
		if what == "leases" && apierrors.IsForbidden(err) {
			continue // what they say is left out
		}
		if err != nil {
			stop()
			return nil, c.complain("watching "+what, err)
		}
		go seen.gather(ctx, w)
	}
	return seen, nil
}

func (s *changes) gather(ctx context.Context, w watch.Interface) {
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, more := <-w.ResultChan():
			raise(s.any)
			if !more {
				raise(s.closed)
				return
			}
		}
	}
}

func raise(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default: // one waits already
	}
}
