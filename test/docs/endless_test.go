package docs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// pause is how often it is looked whether a command has printed what the page shows.
const pause = 200 * time.Millisecond

// runEndless runs a command that does not end, until it has printed what the page shows. Meanwhile something
// happens, again and again, for it to tell of.
func (r *reader) runEndless(ctx context.Context, in shell, b block, meanwhile event) error {
	talk := b.conversation()
	if len(talk) != 1 || len(talk[0].answer) == 0 {
		return errors.New("one command that is interrupted, and what it prints until then, make a block")
	}
	cmd, out := in.command(ctx, talk[0].command), &printed{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := in.host.Start(cmd); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	said := r.until(ctx, talk[0].answer, out, meanwhile, ended)
	patience := time.NewTimer(bound)
	defer patience.Stop()
	// A terminal interrupts all of a pipeline.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		return errors.Join(said, fmt.Errorf("it had ended: %w\n%s", err, out))
	}
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if errors.As(err, &exit) { // by the signal
			err = nil
		}
		return errors.Join(said, err)
	case <-patience.C:
		return errors.Join(said, fmt.Errorf("an interrupt does not end %s", talk[0].command))
	}
}

func (r *reader) until(ctx context.Context, shown []string, out *printed, meanwhile event, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		problem := sameAnswer(shown, out.String())
		if problem == nil {
			return nil
		}
		if meanwhile.script != "" {
			in := r.shell
			in.host = r.hosts[meanwhile.host]
			if _, err := r.bash(ctx, in, meanwhile.script); err != nil && ctx.Err() == nil {
				return fmt.Errorf("what happens meanwhile: %w", err)
			}
		}
		select {
		case err := <-ended:
			return errors.Join(problem, err)
		case <-ctx.Done():
			return problem
		case <-ticker.C:
		}
	}
}

// printed is what a command has printed so far.
type printed struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (p *printed) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(text)
}

// String implements fmt.Stringer.
func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}
