package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// every calls try at once and then at the interval until it says that it is done, or until ctx ends.
func every(ctx context.Context, interval time.Duration, try func() (done bool, err error)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if done, err := try(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// untilCount reads a histogram until it has observed at least so many, with a bound.
func (s *scraper) untilCount(ctx context.Context, want series, count int, bound time.Duration) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	var (
		r    reading
		last error
	)
	err := every(ctx, 10*time.Millisecond, func() (bool, error) {
		r, last = s.read(ctx, want)
		return last == nil && r.count >= count, nil
	})
	if err != nil {
		return r, fmt.Errorf("waiting for sync %d of %s, at %d: %w", count, want.name, r.count, errors.Join(err, last))
	}
	return r, nil
}
