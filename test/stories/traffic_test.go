package stories

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"syscall"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// connections per measured target.
const connections = 1000

// names are what the pods answer with, sorted.
func names(pods ...[]*lab.Pod) []string {
	var out []string
	for _, pod := range slices.Concat(pods...) {
		out = append(out, pod.Host.Name)
	}
	slices.Sort(out)
	return out
}

// awaitAnswers waits until the target is answered by exactly these pods.
func (s *scene) awaitAnswers(to target, want ...[]*lab.Pod) {
	s.t.Helper()
	s.awaitNames(to, names(want...))
}

// awaitNames waits until the target is answered by exactly the pods or hosts of these names, sorted.
func (s *scene) awaitNames(to target, want []string) {
	s.t.Helper()
	await(s.t, fmt.Sprintf("%s reaches %v", to, want), func(ctx context.Context) error {
		return onlyAnswers(ctx, to, want)
	})
}

func onlyAnswers(ctx context.Context, to target, want []string) error {
	first, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	if _, err := to.from.Ask(first, to.network, to.address); err != nil {
		return err
	}
	// That a pod with a fair share is missed has a probability of exp(-20).
	tally := to.from.Tally(ctx, to.network, to.address, 20*len(want))
	if tally.Failed > 0 {
		return errors.Join(tally.Errors...)
	}
	if got := slices.Sorted(maps.Keys(tally.Answers)); !slices.Equal(got, want) {
		return fmt.Errorf("%v answered", got)
	}
	return nil
}

// evenly measures that each of these pods answers its fair share of the target's connections, that
// nobody else answers any and that none fails.
func (s *scene) evenly(to target, pods ...[]*lab.Pod) {
	s.t.Helper()
	tally := to.from.Tally(s.t.Context(), to.network, to.address, connections)
	if err := fair(tally, names(pods...)); err != nil {
		s.t.Errorf("%s: %v", to, err)
	}
}

// fair tests a tally against even shares with Pearson's chi-square. Random choice makes shares
// differ; the limit is exceeded by chance once in a thousand million times, so a test that measures
// dozens of targets does not fail by chance. With 1,000 connections over 3 pods it notices a pod
// that gets a fifth instead of a third.
func fair(tally lab.Tally, want []string) error {
	if tally.Failed > 0 {
		return fmt.Errorf("%d of %d connections failed: %w", tally.Failed, tally.Total(), errors.Join(tally.Errors...))
	}
	if got := slices.Sorted(maps.Keys(tally.Answers)); !slices.Equal(got, want) {
		return fmt.Errorf("answered by %v, want %v", got, want)
	}
	expected := float64(tally.Total()) / float64(len(want))
	sum := 0.0
	for _, n := range tally.Answers {
		sum += (float64(n) - expected) * (float64(n) - expected) / expected
	}
	if limit := chiSquareLimit(len(want) - 1); sum > limit {
		return fmt.Errorf("uneven: chi-square %.1f exceeds %.1f: %v", sum, limit, tally.Answers)
	}
	return nil
}

// chiSquareLimit is the value that chi-square with that many degrees of freedom exceeds with a
// probability of 1e-9, by the approximation of Wilson and Hilferty.
func chiSquareLimit(freedom int) float64 {
	if freedom == 0 {
		return 0
	}
	const z = 5.998 // of the normal distribution
	v := 2 / (9 * float64(freedom))
	return float64(freedom) * math.Pow(1-v+z*math.Sqrt(v), 3)
}

// awaitRefused waits until the target refuses connections at once.
func (s *scene) awaitRefused(to target) {
	s.t.Helper()
	await(s.t, to.String()+" refuses connections", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		name, err := to.from.Ask(ctx, to.network, to.address)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("answered by %q, %w", name, err)
		}
		return nil
	})
}

func TestFair(t *testing.T) {
	for _, test := range []struct {
		answers map[string]int
		failed  int
		fair    bool
	}{
		{map[string]int{"a": 310, "b": 345, "c": 345}, 0, true},
		{map[string]int{"a": 200, "b": 400, "c": 400}, 0, false},
		{map[string]int{"a": 333, "b": 333, "c": 333}, 1, false},
		{map[string]int{"a": 333, "b": 333, "c": 333, "stranger": 1}, 0, false},
		{map[string]int{"a": 500, "b": 500}, 0, false},
	} {
		err := fair(lab.Tally{Answers: test.answers, Failed: test.failed, Errors: []error{}}, []string{"a", "b", "c"})
		if (err == nil) != test.fair {
			t.Errorf("%v: %v", test.answers, err)
		}
	}
}
