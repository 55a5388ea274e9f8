// Command benchoperator measures the operator beside kube-controller-manager's EndpointSlice
// controller, in one run on one API server: how long the slices of many entry points take, what one
// pod that changes its readiness costs in writes, and how much memory the manager needs among pods
// that are none of its business. It prints a table and judges nothing.
//
// BENCH=quick takes a twentieth of everything.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// scale is how much there is of everything.
type scale struct {
	// groups are the entry points, each with podsEach pods.
	groups, podsEach int
	// unrelated pods are selected by nothing.
	unrelated int
	// bigGroup is the number of pods of the group in which one flips.
	bigGroup int
}

func main() {
	if err := lab.Enter(); err != nil {
		fail(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := scale{groups: 1000, podsEach: 10, unrelated: 19_000, bigGroup: 5000}
	if os.Getenv("BENCH") == "quick" {
		s = scale{groups: 50, podsEach: 10, unrelated: 950, bigGroup: 250}
	}
	if err := run(ctx, s); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "benchoperator:", err)
	os.Exit(1)
}

func run(ctx context.Context, s scale) (err error) {
	b, err := newBed(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.lab.Close()) }()
	type measurement struct {
		name string
		run  func(context.Context) (string, error)
	}
	fmt.Fprintf(os.Stdout, "%d entry points x %d pods\n", s.groups, s.podsEach)
	if err := b.compare(ctx); err != nil {
		return err
	}
	for _, m := range []measurement{
		{fmt.Sprintf("operator: writes for one pod flip in a ServiceGroup of %d pods", s.bigGroup), b.measureFlip},
		{fmt.Sprintf("operator: memory with %d pods, %d of them selected", s.unrelated+s.groups, s.groups), b.measureMemory},
	} {
		started := time.Now()
		result, err := m.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		fmt.Fprintf(os.Stdout, "%-75s %s   (measured in %s)\n", m.name, result, time.Since(started).Round(time.Second))
	}
	return nil
}
