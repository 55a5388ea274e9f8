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
	if err := enter(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// enter enters the lab. Root keeps its user namespace, since both proxies enlarge their netlink
// sockets by SO_SNDBUFFORCE, which the kernel allows there only.
func enter() error {
	if _, set := os.LookupEnv(lab.EnvUserNamespace); !set && os.Geteuid() == 0 {
		if err := os.Setenv(lab.EnvUserNamespace, "0"); err != nil {
			return fmt.Errorf("setting %s: %w", lab.EnvUserNamespace, err)
		}
	}
	return lab.Enter()
}

// ownUserNamespace says whether the lab is in a user namespace of its own.
func ownUserNamespace() bool { return os.Getenv(lab.EnvUserNamespace) != "0" }

func run(ctx context.Context) error {
	o, err := optionsFromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	b, err := newBed(ctx, o, os.Stderr)
	if err != nil {
		return err
	}
	r := newReport()
	err = b.measureAll(ctx, r)
	if err = errors.Join(err, b.close()); err != nil {
		return errors.Join(err, r.writeText(os.Stdout))
	}
	if err := r.writeText(os.Stdout); err != nil || o.quick || o.only != "" {
		return err
	}
	return r.publish(o)
}
