package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

const (
	// probeInterval is how often the probe is asked while a change is under way. More often would
	// take the proxy's CPU.
	probeInterval = 500 * time.Microsecond
	// changeBound is how long a change may take.
	changeBound = 2 * time.Minute
)

// change measures what one changed endpoint costs: first, among ten endpoints, by the proxy's own
// account and with nobody asking; then at the probe, from before the write to the first answer by the
// new endpoint.
func (b *bed) change(ctx context.Context, s sink, c *contender) error {
	metrics := newScraper(c.node.Host, c.metrics)
	before, err := metrics.read(ctx, c.changes)
	if err != nil {
		return err
	}
	var syncs, written, answered []time.Duration
	err = b.repeat(func(i int) error {
		sync, err := b.changeCounted(ctx, c, metrics, &before, i)
		syncs = append(syncs, sync)
		return err
	})
	if err != nil {
		return err
	}
	err = b.repeat(func(int) error {
		write, answer, err := b.changeProbe(ctx, c)
		written, answered = append(written, write), append(answered, answer)
		return err
	})
	if err != nil {
		return err
	}
	b.say("%s changed an endpoint at %d Services: own sync p50 %.2f ms p99 %.2f ms (%d), answered p50 %.1f ms p99 %.1f ms (%d)",
		c.name, b.objects.size(), milli(percentile(syncs, 50)), milli(percentile(syncs, 99)), len(syncs),
		milli(percentile(answered, 50)), milli(percentile(answered, 99)), len(answered))
	s.addTimes(changeSyncMedian, changeSyncTail, syncs)
	s.addTimes(answeredMedian, answeredTail, answered)
	s.addTimes(writtenMedian, writtenTail, written)
	return nil
}

// repeat calls run as often as the options say, and less often where that takes too long.
func (b *bed) repeat(run func(i int) error) error {
	started := time.Now()
	for i := range b.options.changes {
		if i >= b.options.slowChanges && time.Since(started) > b.options.changeBudget {
			return nil
		}
		if err := run(i); err != nil {
			return err
		}
	}
	return nil
}

// changeCounted changes an endpoint of a Service with ten of them and returns how long the proxy says
// that took.
func (b *bed) changeCounted(ctx context.Context, c *contender, metrics *scraper, before *reading, i int) (time.Duration, error) {
	size := b.objects.size()
	service := (i*size/b.options.changes + probe + 1) % size
	if service == probe {
		service = 0
	}
	old := slices.Clone(b.objects.services[service])
	if err := b.objects.replaceEndpoint(ctx, service); err != nil {
		return 0, err
	}
	after, err := metrics.untilCount(ctx, c.changes, before.count+1, changeBound)
	if err != nil {
		return 0, err
	}
	sync := after.since(*before)
	*before = after
	return sync.sum, c.client.Do(func() error {
		// During the change the old endpoint may still answer.
		_, _, err := askService(service, append(old, b.objects.services[service]...), answerBound)
		return err
	})
}

// changeProbe changes the probe's only endpoint. It returns how long the write took, and the time
// from before the write to the first answer by the new endpoint.
func (b *bed) changeProbe(ctx context.Context, c *contender) (written, answered time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, changeBound, fmt.Errorf("the new endpoint did not answer in %s", changeBound))
	defer cancel()
	old := slices.Clone(b.objects.services[probe])
	newcomer := b.objects.newcomer()
	wrote := make(chan error, 1)
	started := time.Now()
	go func() {
		err := b.objects.replaceEndpoint(ctx, probe)
		written = time.Since(started)
		wrote <- err
	}()
	err = c.client.Do(func() error {
		return every(ctx, probeInterval, func() (bool, error) {
			endpoint, _, err := askService(probe, append(old, newcomer), answerBound)
			return endpoint == newcomer, err
		})
	})
	answered = time.Since(started)
	if writeErr := <-wrote; writeErr != nil {
		err = writeErr
	}
	if err != nil {
		return 0, 0, fmt.Errorf("changing the probe's endpoint: %w", err)
	}
	return written, answered, b.oldIsGone(c, newcomer)
}

// oldIsGone fails if the probe is still answered by another endpoint than the new one.
func (b *bed) oldIsGone(c *contender, newcomer netip.Addr) error {
	return c.client.Do(func() error {
		_, _, err := askService(probe, []netip.Addr{newcomer}, answerBound)
		return err
	})
}
