package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options say what is measured and how often.
type options struct {
	// quick is a smoke run (BENCH=quick): everything once and small, and nothing is published.
	quick bool
	// sizes are the numbers of Services, ascending (BENCH_SIZES=1000,10000). The cluster grows from
	// one to the next.
	sizes []int
	// only is a part of the names of the proxies to measure (BENCH_ONLY=agent); nothing is published
	// then.
	only string
	// rounds is how often each proxy is started at each size (BENCH_ROUNDS). Medians are over these.
	rounds int
	// changes is how often one endpoint is changed at each size; slowChanges is the number for
	// proxies and sizes where the changes would otherwise take longer than changeBudget.
	changes, slowChanges int
	changeBudget         time.Duration
	// bound is how long a proxy may take to program everything until it is given up (BENCH_BOUND).
	bound time.Duration
	// turns is how often connections are made through each proxy, for the time of a turn.
	turns int
	turn  time.Duration
	// iptablesUpTo is the largest size that kube-proxy's iptables mode is measured at.
	iptablesUpTo int
	// connectUpTo is the largest size that connections are counted at.
	connectUpTo int
}

func optionsFromEnvironment(get func(string) string) (options, error) {
	o := options{
		sizes: []int{1, 1000, 10000, 30000}, rounds: 3,
		changes: 200, slowChanges: 50, changeBudget: 5 * time.Minute,
		bound: 10 * time.Minute, turns: 200, turn: 100 * time.Millisecond,
		iptablesUpTo: 1000, connectUpTo: 10000, only: get("BENCH_ONLY"),
	}
	switch mode := get("BENCH"); mode {
	case "":
	case "quick":
		o.quick, o.sizes, o.rounds = true, []int{200}, 1
		o.changes, o.slowChanges, o.changeBudget = 5, 3, 5*time.Second
		o.bound, o.turns, o.turn = 20*time.Second, 10, 100*time.Millisecond
	default:
		return o, fmt.Errorf("BENCH=%s: it may be quick, or left out", mode)
	}
	if text := get("BENCH_SIZES"); text != "" {
		o.sizes = nil
		for _, field := range strings.Split(text, ",") {
			size, err := strconv.Atoi(strings.TrimSpace(field))
			if err != nil || size < 1 || size > maxServices {
				return o, fmt.Errorf("BENCH_SIZES=%s: %q is not a number of Services from 1 to %d", text, field, maxServices)
			}
			o.sizes = append(o.sizes, size)
		}
		slices.Sort(o.sizes)
	}
	if text := get("BENCH_ROUNDS"); text != "" {
		rounds, err := strconv.Atoi(text)
		if err != nil || rounds < 1 {
			return o, fmt.Errorf("BENCH_ROUNDS=%s is not a number of rounds", text)
		}
		o.rounds = rounds
	}
	if text := get("BENCH_BOUND"); text != "" {
		bound, err := time.ParseDuration(text)
		if err != nil || bound <= 0 {
			return o, fmt.Errorf("BENCH_BOUND=%s is not a duration such as 10m", text)
		}
		o.bound = bound
	}
	return o, nil
}
