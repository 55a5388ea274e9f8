package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

const (
	// askInterval is how often a Service that is not programmed yet is asked; times are exact to it.
	askInterval = 5 * time.Millisecond
	// unansweredAfter is how long a question may take that nobody may answer.
	unansweredAfter = 10 * time.Millisecond
	// sampled is how many Services, spread over all, must answer before everything counts as
	// programmed. The agent writes Services in the order of their names, kube-proxy all at once.
	sampled = 20
	// metricBound is how long a proxy may take to count a sync whose effect is seen already.
	metricBound = 2 * time.Minute
)

// errGaveUp ends waiting for a proxy that takes too long.
var errGaveUp = errors.New("gave up")

// cold starts the proxy on a node without rules and measures until the last Service is programmed.
// The process may run even if there is an error.
func (b *bed) cold(ctx context.Context, s sink, c *contender) (*lab.Process, error) {
	started := time.Now()
	process, err := c.launch(c.node)
	if err != nil {
		return nil, err
	}
	err = b.awaitProgrammed(ctx, c, process)
	took := time.Since(started)
	if errors.Is(err, errGaveUp) {
		c.gaveUp = true
		s.atLeast(coldTotal, took.Seconds())
		b.say("%s at %d Services: gave up after %.0f s", c.name, b.objects.size(), took.Seconds())
		return process, b.readUsage(s, process)
	}
	if err != nil {
		return process, fmt.Errorf("%w; the end of its log:\n%s", err, process.Tail())
	}
	// Questions that nobody answered are tracked, too, and would lead later ones astray.
	if err := c.forgetConnections(); err != nil {
		return process, err
	}
	syncs, err := newScraper(c.node.Host, c.metrics).untilCount(ctx, c.syncs, 1, metricBound)
	if err != nil {
		return process, err
	}
	b.say("%s programmed %d Services in %.3f s, its own syncs took %.3f s", c.name, b.objects.size(), took.Seconds(), syncs.sum.Seconds())
	s.add(coldTotal, took.Seconds())
	s.add(coldSync, syncs.sum.Seconds())
	return process, b.readUsage(s, process)
}

func (b *bed) readUsage(s sink, process *lab.Process) error {
	u, err := process.Usage()
	if err != nil {
		return err
	}
	s.add(cpu, u.CPU.Seconds())
	s.add(resident, float64(u.Resident)/1e6)
	s.add(peak, float64(u.Peak)/1e6)
	return nil
}

// awaitProgrammed returns when all sampled Services have been answered by an endpoint of theirs.
func (b *bed) awaitProgrammed(ctx context.Context, c *contender, process *lab.Process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, b.options.bound, errGaveUp)
	defer cancel()
	ended := fmt.Errorf("%s ended", c.name)
	return c.client.Do(func() error {
		// The last one first, which leaves the others nothing to wait for.
		for _, i := range slices.Backward(b.sample(sampled)) {
			err := every(ctx, askInterval, func() (bool, error) {
				select {
				case <-process.Ended():
					return false, ended
				default:
				}
				_, _, err := askService(i, b.objects.services[i], unansweredAfter)
				if fatal(err) {
					return false, err
				}
				return err == nil, nil
			})
			if err != nil {
				return fmt.Errorf("waiting for Service %d: %w", i, err)
			}
		}
		return nil
	})
}

// sample are n Services spread over all, with the first and the last.
func (b *bed) sample(n int) []int {
	last := b.objects.size() - 1
	n = min(n, last+1)
	var out []int
	for i := range n {
		out = append(out, i*last/max(1, n-1))
	}
	return slices.Compact(out)
}
