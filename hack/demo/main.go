package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

func main() {
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	show := newDemo(os.Stdout)
	err := show.run(ctx)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "demo: interrupted")
	case show.lab == nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
	default:
		show.verdict(err)
		fmt.Fprint(show.out, missingTools())
		if os.Getenv("KEEP") == "1" {
			show.keep(ctx)
		}
	}
	if show.lab != nil {
		err = errors.Join(err, show.lab.Close())
	}
	if err != nil {
		os.Exit(1)
	}
}
