package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// clients is how many connections are made at a time.
	clients = 4
	// answerBound is how long an answer may take before it counts as missing.
	answerBound = 2 * time.Second
)

// connectAll makes new connections to all Services in turn and measures how many and how fast. The
// proxies' programs have ended, what they programmed is there, and they take short turns: so
// others' work on the machine hits all of them alike. Endpoints that were replaced after a program's
// end still answer.
func (b *bed) connectAll(ctx context.Context, r *report) error {
	order := b.at(b.objects.size())
	for range b.options.turns {
		slices.Reverse(order) // nobody is always the one after the other
		for _, c := range order {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if err := b.connect(r.at(b.objects.size(), c.name), c); err != nil {
				return fmt.Errorf("through %s: %w", c.name, err)
			}
		}
	}
	return nil
}

// connect is one turn of one proxy.
func (b *bed) connect(s sink, c *contender) error {
	if err := c.forgetConnections(); err != nil {
		return err
	}
	var (
		workers  sync.WaitGroup
		latency  [clients][]time.Duration
		problems [clients]error
		spent    = processTime()
		started  = time.Now()
		end      = started.Add(b.options.turn)
	)
	for w := range clients {
		workers.Go(func() {
			problems[w] = c.client.Do(func() (err error) {
				latency[w], err = b.connectUntil(end, w)
				return err
			})
		})
	}
	workers.Wait()
	elapsed := time.Since(started)
	spent = processTime() - spent
	if err := errors.Join(problems[:]...); err != nil {
		return err
	}
	all := slices.Concat(latency[:]...)
	s.add(rate, float64(len(all))/elapsed.Seconds())
	s.add(connectCost, micro(spent)/float64(len(all)))
	s.add(connectMedian, micro(percentile(all, 50)))
	s.add(connectTail, micro(percentile(all, 99)))
	return c.forgetConnections()
}

// processTime is the CPU time of this process: of clients and servers, and of the kernel's work for
// their packets, which it does for the most part on the sender's account.
func processTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// connectUntil makes connections from the calling thread's host, one after another. Workers begin at
// different Services, and a step that is prime visits all of them.
func (b *bed) connectUntil(end time.Time, worker int) ([]time.Duration, error) {
	const step = 7919
	var latency []time.Duration
	size := b.objects.size()
	for i := worker * size / clients; time.Now().Before(end); i = (i + step) % size {
		_, took, err := askService(i, b.objects.everOf(i), answerBound)
		if err != nil {
			return latency, err
		}
		latency = append(latency, took)
	}
	return latency, nil
}

// forgetConnections empties the node's connection tracking, so that no measurement pays for the one
// before it.
func (c *contender) forgetConnections() error {
	err := c.node.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
	if err != nil {
		return fmt.Errorf("flushing the connections of %s: %w", c.node.Name, err)
	}
	return nil
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func milli(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
