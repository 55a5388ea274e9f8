package docs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryCommandRuns: a reader goes through each page from top to bottom, in a namespace of his own.
func TestEveryCommandRuns(t *testing.T) {
	c := requireCluster(t)
	ran := 0
	for _, p := range allPages(t) {
		t.Run(p.path, func(t *testing.T) { ran += c.read(t, p) })
	}
	if ran < 10 {
		t.Errorf("ran only %d blocks", ran)
	}
}

// reader is who reads a page.
type reader struct {
	*cluster
	shell
	namespace string
}

// read runs the blocks of a page and returns how many.
func (c *cluster) read(t *testing.T, p page) int {
	var runnable []block
	for _, b := range p.blocks {
		if _, skipped := b.skipped(); (b.language == "sh" || b.language == "console") && !skipped {
			runnable = append(runnable, b)
		}
	}
	if len(runnable) == 0 {
		return 0
	}
	r := c.newReader(t, p)
	t.Cleanup(func() { r.leave(t) })
	for _, file := range p.needs {
		r.must(t, "kubectl apply -f "+file)
	}
	for _, b := range runnable {
		if err := r.runWhereItSays(t, p, b); err != nil {
			t.Errorf("%s:%d: %v", p.path, b.line, err)
		}
	}
	return len(runnable)
}

// runWhereItSays runs a block as the marks behind its language say.
func (r *reader) runWhereItSays(t *testing.T, p page, b block) error {
	m, err := b.marks()
	if err != nil {
		return err
	}
	in := r.shell
	if m.host != "" {
		if in.host = r.hosts[m.host]; in.host == nil {
			return fmt.Errorf("there is no host %s", m.host)
		}
	}
	if m.endless {
		return r.runEndless(t.Context(), in, b, p.meanwhile)
	}
	err = r.run(t.Context(), in, b)
	if m.removes {
		err = errors.Join(err, r.installAgain(t.Context()))
	}
	return err
}

func (c *cluster) newReader(t *testing.T, p page) *reader {
	t.Helper()
	// The folder has what the repository has, and takes what the reader writes.
	r := &reader{cluster: c, shell: shell{host: c.Network.Fabric, dir: t.TempDir()}}
	r.namespace = "reader-of-" + newAnchor(strings.NewReplacer("/", " ", ".", " ").Replace(p.path), nil)
	entries, err := os.ReadDir(c.root)
	for _, entry := range entries {
		err = errors.Join(err, os.Symlink(filepath.Join(c.root, entry.Name()), filepath.Join(r.dir, entry.Name())))
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	content, readErr := os.ReadFile(c.ControlPlane.Kubeconfig())
	if err := errors.Join(err, readErr, os.WriteFile(kubeconfig, content, 0o600)); err != nil {
		t.Fatal(err)
	}
	r.env = append(slices.Clone(c.base), "KUBECONFIG="+kubeconfig)
	r.must(t, "kubectl create namespace "+r.namespace+" && kubectl config set-context --current --namespace="+r.namespace)
	return r
}

// leave frees what others may want, such as NodePorts.
func (r *reader) leave(t *testing.T) {
	if _, err := r.bash(context.Background(), r.shell, "kubectl delete svcg,services,deployments --all --cascade=foreground && "+
		"kubectl delete --wait=false namespace "+r.namespace); err != nil {
		t.Errorf("clearing up: %v", err)
	}
}

func (r *reader) must(t *testing.T, script string) {
	t.Helper()
	if _, err := r.bash(t.Context(), r.shell, script); err != nil {
		t.Fatal(err)
	}
}

func (r *reader) run(ctx context.Context, in shell, b block) error {
	if b.language == "sh" {
		_, err := r.bash(ctx, in, b.text)
		return err
	}
	var problems []error
	for _, c := range b.conversation() {
		out, err := r.bash(ctx, in, c.command)
		if err == nil {
			err = sameAnswer(c.answer, out)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// exchange is a command and what it prints.
type exchange struct {
	command string
	answer  []string
}

// conversation are the commands of a console; a command goes on after a backslash.
func (b *block) conversation() []exchange {
	var out []exchange
	goesOn := false
	for _, line := range strings.Split(strings.TrimSpace(b.text), "\n") {
		command, begins := strings.CutPrefix(line, "$ ")
		switch {
		case begins:
			out = append(out, exchange{command: command})
		case len(out) == 0:
			out = append(out, exchange{command: "echo a console begins with a command after '$ '; false"})
		case goesOn:
			out[len(out)-1].command += "\n" + line
		default:
			out[len(out)-1].answer = append(out[len(out)-1].answer, line)
		}
		goesOn = (begins || goesOn) && strings.HasSuffix(line, "\\")
	}
	return out
}

// script are the commands of a block.
func (b *block) script() string {
	if b.language != "console" {
		return b.text
	}
	var out []string
	for _, c := range b.conversation() {
		out = append(out, c.command)
	}
	return strings.Join(out, "\n")
}

// changing are words with digits, such as addresses and ages, and with the suffixes that Kubernetes makes up.
var changing = regexp.MustCompile(`\S*\d\S*|\S+-[bcdfghjklmnpqrstvwxz]{5}\b`)

// sameAnswer compares what a page shows with what was printed: each line of the page must be there, in any
// order, since rows of tables come in any. Spacing and what changes may differ, and "..." stands for more.
func sameAnswer(shown []string, printed string) error {
	plain := func(line string) string {
		return strings.Join(strings.Fields(changing.ReplaceAllString(line, "#")), " ")
	}
	var there []string
	for line := range strings.Lines(printed) {
		there = append(there, plain(line))
	}
	for _, line := range shown {
		if line != "..." && !slices.Contains(there, plain(line)) {
			return fmt.Errorf("nothing is like %q in\n%s", line, printed)
		}
	}
	return nil
}
