package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// target is somewhere to connect to, and who should answer.
type target struct {
	from    *lab.Host
	address string
	group   *group
}

func (t target) String() string { return t.from.Name + " -> " + t.address }

// targets are all ways to reach the group: the virtual IP from a pod, and its NodePort on every
// node from outside.
func (d *demo) targets(g *group) []target {
	targets := []target{{d.visitor.Host, net.JoinHostPort(d.vip, strconv.Itoa(int(g.port))), g}}
	for _, node := range d.lab.Nodes() {
		targets = append(targets, target{d.client, lab.HostPort(node.IPv4, g.nodePort), g})
	}
	return targets
}

// ask sends the connections to each target and adds a row for each to the table.
func (d *demo) ask(ctx context.Context, targets ...target) {
	for _, t := range targets {
		if ctx.Err() == nil {
			d.table.add(t, t.from.Tally(ctx, "tcp", t.address, connections))
		}
	}
}

// awaitAnswers waits until every target of the groups has been answered by every pod of its group.
func (d *demo) awaitAnswers(ctx context.Context, groups ...*group) error {
	for _, g := range groups {
		for _, t := range d.targets(g) {
			seen := map[string]bool{}
			err := d.until(ctx, func(ctx context.Context) error {
				name, err := t.from.Ask(ctx, "tcp", t.address)
				if err != nil {
					return err
				}
				if seen[name] = true; len(seen) < len(g.pods) {
					return fmt.Errorf("of %d pods, %d answered", len(g.pods), len(seen))
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("waiting for %s to reach the %s pods: %w", t, g.name, err)
			}
		}
	}
	return nil
}

// attemptBound is short because packets to an address nobody serves yet are lost without a word.
const attemptBound = 200 * time.Millisecond

// until repeats check until it succeeds or settleBound has passed, and then returns its last error.
func (d *demo) until(ctx context.Context, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, settleBound)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		attempt, done := context.WithTimeout(ctx, attemptBound)
		err := check(attempt)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return err
		}
	}
}

func refusedEverywhere(ctx context.Context, targets []target) error {
	for _, t := range targets {
		name, err := t.from.Ask(ctx, "tcp", t.address)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("%s: answered by %q, %w", t, name, err)
		}
	}
	return nil
}

// refusal puts the outcome of a connection that should be refused into words.
func refusal(err error) string {
	switch {
	case err == nil:
		return "ANSWERED"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	default:
		return err.Error()
	}
}
