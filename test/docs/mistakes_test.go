package docs

import (
	"slices"
	"strings"
	"testing"
)

// TestMistakesAreNoticed: a check that takes everything would be of no use.
func TestMistakesAreNoticed(t *testing.T) {
	for _, wrong := range []string{
		"make no-such-target",
		"make test NO_SUCH_VARIABLE=1",
		"servicegroup no-such-command",
		"servicegroup agent no-such-command",
		"servicegroup agent --no-such-flag=1",
		"servicegroup agent dump --no-such-flag",
		"kubectl servicegroup no-such-command",
		"kubectl servicegroup convert svc/web --no-such-flag",
		"kubectl -n servicegroup-system exec POD -- /servicegroup agent no-such-command",
	} {
		commands := simpleCommands(wrong)
		if _, err := knows(t.Context(), commands[len(commands)-1]); err == nil {
			t.Errorf("%s: no complaint", wrong)
		}
	}
	if err := sameAnswer([]string{"NAME   TYPE", "web    NodePort   10.0.0.1"}, "NAME TYPE\nweb ClusterIP 10.0.0.2\n"); err == nil {
		t.Error("another answer: no complaint")
	}
	if err := sameAnswer([]string{"NAME   TYPE", "web    NodePort   10.0.0.1"}, "NAME TYPE\nweb NodePort 10.0.0.2\n"); err != nil {
		t.Errorf("another address: %v", err)
	}
}

// TestPage: what is read of a page.
func TestPage(t *testing.T) {
	p := parsePage("page.md", []byte("# A `field[].of` it\n\n<!-- needs: a.yaml b.yaml -->\n\n[link](to.md#there) and `make it so`\n\n## Twice\n\n## Twice\n\n"+
		"```console on node1\n$ one \\\n  two\nanswer\n$ three\n```\n\n    indented\n\n- in a list\n\n  ```sh not run: why\n  four\n  ```\n"))
	if want := []string{"a-fieldof-it", "twice", "twice-1"}; !slices.Equal(p.anchors, want) {
		t.Errorf("anchors %q, want %q", p.anchors, want)
	}
	if want := []string{"a.yaml", "b.yaml"}; !slices.Equal(p.needs, want) {
		t.Errorf("needs %q, want %q", p.needs, want)
	}
	if len(p.links) != 1 || p.links[0] != (span{5, "to.md#there"}) {
		t.Errorf("links %v", p.links)
	}
	if !slices.Contains(p.spans, span{5, "make it so"}) {
		t.Errorf("spans %v", p.spans)
	}
	if len(p.blocks) != 3 {
		t.Fatalf("blocks %v", p.blocks)
	}
	talk := p.blocks[0].conversation()
	if len(talk) != 2 || talk[0].command != "one \\\n  two" || !slices.Equal(talk[0].answer, []string{"answer"}) || talk[1].command != "three" {
		t.Errorf("conversation %q", talk)
	}
	if p.blocks[1].language != "" || strings.TrimSpace(p.blocks[1].text) != "indented" {
		t.Errorf("an indented block is %+v", p.blocks[1])
	}
	if reason, ok := p.blocks[2].skipped(); !ok || reason != "why" || p.blocks[2].text != "four\n" {
		t.Errorf("a marked block is %+v", p.blocks[2])
	}
}
