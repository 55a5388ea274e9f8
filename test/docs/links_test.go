package docs

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestEveryLinkLeadsSomewhere: links within the repository, and their anchors.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	pages, followed := allPages(t), 0
	root, err := lab.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		for _, link := range p.links {
			to, err := url.Parse(link.text)
			if err != nil || to.IsAbs() {
				continue // elsewhere
			}
			followed++
			target := p.path
			if to.Path != "" {
				target = filepath.Join(filepath.Dir(p.path), to.Path)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s:%d: %s leads nowhere: %v", p.path, link.line, link.text, err)
				continue
			}
			at := slices.IndexFunc(pages, func(p page) bool { return p.path == target })
			if to.Fragment != "" && (at < 0 || !slices.Contains(pages[at].anchors, to.Fragment)) {
				t.Errorf("%s:%d: %s: %s has no heading of that name", p.path, link.line, link.text, target)
			}
		}
	}
	if followed < 20 {
		t.Errorf("followed only %d links", followed)
	}
}
