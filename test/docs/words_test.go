package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// commandLike is how a line begins that a reader would type.
var commandLike = regexp.MustCompile(`^\$? *(kubectl|make|servicegroup|helm|go run|nft|curl|conntrack|apt-get) `)

// TestNoCommandHides: a command is in a block that is run, or that says why not.
func TestNoCommandHides(t *testing.T) {
	for _, p := range allPages(t) {
		for _, b := range p.blocks {
			if b.language == "sh" || b.language == "console" || b.language == "yaml" {
				continue
			}
			for _, line := range strings.Split(b.text, "\n") {
				if commandLike.MatchString(line) {
					t.Errorf("%s:%d: begin the block with ```sh or ```console, so that a test runs this: %s", p.path, b.line, line)
				}
			}
		}
	}
}

// TestMarks: what is not run would say why. There is no such block.
func TestMarks(t *testing.T) {
	const most = 0
	marked, shown := 0, 0
	for _, p := range allPages(t) {
		for _, b := range p.blocks {
			if b.language != "sh" && b.language != "console" && b.language != "yaml" {
				continue
			}
			shown++
			reason, skipped := b.skipped()
			switch {
			case skipped:
				marked++
				t.Logf("%s:%d is not run: %s", p.path, b.line, reason)
				if len(reason) < 10 {
					t.Errorf("%s:%d: say why it is not run", p.path, b.line)
				}
			default:
				if _, err := b.marks(); err != nil {
					t.Errorf("%s:%d: %v", p.path, b.line, err)
				}
			}
		}
	}
	t.Logf("%d of %d blocks are not run", marked, shown)
	if marked > most {
		t.Errorf("%d blocks are not run, more than %d: have them run", marked, most)
	}
}

// marks are what a block says behind its language.
type marks struct {
	host                     string
	removes, endless, values bool
}

func (b *block) marks() (marks, error) {
	var m marks
	for _, mark := range strings.Split(b.note, ", ") {
		host, onHost := strings.CutPrefix(mark, "on ")
		switch {
		case mark == "":
		case b.language == "yaml" && mark == "values":
			m.values = true
		case b.language != "yaml" && onHost:
			m.host = host
		case b.language != "yaml" && mark == "put back afterwards":
			m.removes = true
		case b.language == "console" && mark == "until interrupted":
			m.endless = true
		default:
			return m, fmt.Errorf("```%s %s: nobody knows what that means; see doc.go", b.language, b.note)
		}
	}
	return m, nil
}

// skipped says whether a block is marked as not run, and why.
func (b *block) skipped() (reason string, ok bool) {
	if b.language == "yaml" {
		return strings.CutPrefix(b.note, "not applied: ")
	}
	return strings.CutPrefix(b.note, "not run: ")
}

// TestEveryWordIsKnown: make targets and variables, and subcommands and flags of our programs, in
// sentences and in all blocks.
func TestEveryWordIsKnown(t *testing.T) {
	checked := 0
	check := func(at string, script string) {
		for _, words := range simpleCommands(script) {
			known, err := knows(t.Context(), words)
			if known {
				checked++
			}
			if err != nil {
				t.Errorf("%s: %s: %v", at, strings.Join(words, " "), err)
			}
		}
	}
	for _, p := range allPages(t) {
		for _, b := range p.blocks {
			if b.language == "sh" || b.language == "console" {
				check(fmt.Sprintf("%s:%d", p.path, b.line), b.script())
			}
		}
		for _, s := range p.spans {
			check(fmt.Sprintf("%s:%d", p.path, s.line), s.text)
		}
	}
	if checked < 10 {
		t.Errorf("checked only %d commands", checked)
	}
}

var betweenCommands = regexp.MustCompile(`\n|\|+|&&|;| -- |\$\(|\)`)

// simpleCommands are the words of the commands of a script, as far as checking words goes: no variables
// before them, no comments, redirections and quotes.
func simpleCommands(script string) [][]string {
	var out [][]string
	script = strings.ReplaceAll(script, "\\\n", " ")
	for _, command := range betweenCommands.Split(script, -1) {
		var words []string
		for _, word := range strings.Fields(command) {
			word = strings.Trim(word, `"'`)
			if strings.HasPrefix(word, "#") || strings.ContainsAny(word, "<>") {
				break
			}
			if len(words) > 0 || !strings.Contains(word, "=") {
				words = append(words, word)
			}
		}
		if len(words) > 0 {
			out = append(out, words)
		}
	}
	return out
}

// knows says whether a command is one whose words can be checked, and what is wrong with them.
func knows(ctx context.Context, words []string) (bool, error) {
	program, args := filepath.Base(words[0]), words[1:]
	switch {
	case program == "make" && len(args) > 0:
		return true, makeKnows(ctx, args)
	case program == "servicegroup" && len(args) > 0:
		return true, helps(ctx, "servicegroup", args)
	case program == "kubectl" && len(args) > 1 && (args[0] == "servicegroup" || args[0] == "svcg"):
		return true, helps(ctx, "kubectl-servicegroup", args[1:])
	}
	return false, nil
}

var makefile = sync.OnceValues(func() (string, error) {
	root, err := lab.ModuleRoot()
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(filepath.Join(root, "Makefile"))
	return string(content), err
})

func makeKnows(ctx context.Context, args []string) error {
	content, err := makefile()
	if err != nil {
		return err
	}
	for _, arg := range args {
		if name, _, ok := strings.Cut(arg, "="); ok && !strings.Contains(content, name) {
			return fmt.Errorf("the Makefile has no variable %s", name)
		}
	}
	root, err := lab.ModuleRoot()
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "make", append([]string{"-n", "-C", root}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make -n: %w: %s", err, out)
	}
	return nil
}

// helps asks a program of ours for the help of a command line: it answers when it knows every flag, and
// with the help of what it took for the command.
func helps(ctx context.Context, program string, args []string) error {
	root, err := lab.ModuleRoot()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-") })
	if at < 0 {
		at = len(args)
	}
	if program == "kubectl-servicegroup" {
		at = min(at, 1) // names follow
	}
	out, err := exec.CommandContext(ctx, filepath.Join(root, "bin", program), append(slices.Clone(args), "--help")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("(make build builds it) %w: %s", err, out)
	}
	_, usage, _ := strings.Cut(string(out), "Usage:\n")
	usage, _, _ = strings.Cut(usage, "\n")
	for _, word := range args[:at] {
		if !slices.Contains(strings.Fields(usage), word) {
			return fmt.Errorf("there is no subcommand %s", word)
		}
	}
	return nil
}
