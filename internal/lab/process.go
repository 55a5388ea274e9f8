package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// startBound is how long a program may take to become ready.
	startBound = 90 * time.Second
	// stopBound is how long a program may take to end after SIGTERM before it is killed.
	stopBound = 5 * time.Second
	// tailLines is how much of a failed program's log goes into the error.
	tailLines = 25
)

// Process is a program the lab runs on one of its hosts.
type Process struct {
	// Name says what runs where, such as kube-proxy-node1.
	Name string
	// LogPath is the file with the program's standard output and error.
	LogPath string

	cmd   *exec.Cmd
	ended chan struct{} // closed when the program has ended
}

// program says how to run a program.
type program struct {
	name   string // for the log and errors
	path   string
	args   []string
	env    []string // added to the lab's environment
	host   *Host
	dir    string // for the log file
	health string // URL that answers 200 once the program is ready, asked from host; "" for none
}

// start starts the program and waits until it is ready.
func (p program) start(ctx context.Context) (*Process, error) {
	process, err := p.launch()
	if err != nil {
		return nil, err
	}
	if p.health == "" {
		return process, nil
	}
	err = process.await(ctx, func(ctx context.Context) error { return p.host.askHealth(ctx, p.health) })
	if err != nil {
		return nil, errors.Join(err, process.Stop())
	}
	return process, nil
}

// launch starts the program and waits for nothing.
func (p program) launch() (*Process, error) {
	process := &Process{Name: p.name, LogPath: filepath.Join(p.dir, p.name+".log"), ended: make(chan struct{})}
	// Appended to, so that a program started again continues its log.
	log, err := os.OpenFile(process.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("creating the log of %s: %w", p.name, err)
	}
	defer log.Close()
	process.cmd = exec.Command(p.path, p.args...)
	process.cmd.Env = append(os.Environ(), p.env...)
	process.cmd.Stdout, process.cmd.Stderr = log, log
	// A group of its own: Ctrl-C on the terminal is for the lab, which ends its programs in order.
	process.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.host.Start(process.cmd); err != nil {
		return nil, err
	}
	go func() {
		_ = process.cmd.Wait() // ProcessState says how it ended
		close(process.ended)
	}()
	return process, nil
}

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Path is the program's file.
func (p *Process) Path() string { return p.cmd.Path }

// PID is the program's process id inside the lab.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop ends the program: SIGTERM, and SIGKILL if it is still there 5 seconds later. It returns when
// the program is gone.
func (p *Process) Stop() error {
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended already
	timer := time.NewTimer(stopBound)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		return p.kill()
	}
	return nil
}

// kill ends the program without giving it a say.
func (p *Process) kill() error {
	if p == nil {
		return nil
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", p.Name, err)
	}
	<-p.ended
	return nil
}

// await waits, with a bound, for check to succeed. The error has the end of the program's log.
func (p *Process) await(ctx context.Context, check func(context.Context) error) error {
	err := poll(ctx, startBound, p.ended, check)
	if err == nil {
		return nil
	}
	select {
	case <-p.ended:
		err = fmt.Errorf("%s ended (%s)", p.Name, p.cmd.ProcessState)
	default:
		err = fmt.Errorf("waiting for %s to be ready: %w", p.Name, err)
	}
	return fmt.Errorf("%w; the end of its log:\n%s", err, p.Tail())
}

// Tail is the end of the program's log.
func (p *Process) Tail() string {
	log, err := os.ReadFile(p.LogPath)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSuffix(string(log), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

// askHealth asks a health endpoint from this host; anything but 200 is an error.
func (h *Host) askHealth(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := h.HTTPClient(false)
	// Health is asked without credentials, so there is nothing a forged certificate could steal.
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<12)) // only explains the error
	return fmt.Errorf("%s answers %s: %s", url, response.Status, body)
}
