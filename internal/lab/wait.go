package lab

import (
	"context"
	"fmt"
	"time"
)

// pollInterval is the time between two looks at a state nobody tells us about.
const pollInterval = 20 * time.Millisecond

// poll calls check until it returns nil. It gives up after the bound, when ctx ends, or when stop
// is closed (nil: never), and then returns check's last error.
func poll(ctx context.Context, bound time.Duration, stop <-chan struct{}, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-stop:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%w, waiting in vain for: %w", context.Cause(ctx), err)
		}
	}
}

// Await calls check now and then until it returns nil. It gives up after the bound or when ctx ends, and then says
// what check said last.
func Await(ctx context.Context, bound time.Duration, check func(context.Context) error) error {
	return poll(ctx, bound, nil, check)
}
