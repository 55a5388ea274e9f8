package docs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestMessagesAreSaid: what troubleshooting.md quotes is said by our programs or the CRD.
func TestMessagesAreSaid(t *testing.T) {
	source, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	quoted := 0
	for _, p := range allPages(t) {
		if p.path != filepath.Join("docs", "troubleshooting.md") {
			continue
		}
		for _, s := range p.spans {
			if len(strings.Fields(s.text)) < 3 || commandLike.MatchString(s.text) {
				continue
			}
			quoted++
			for _, part := range strings.Split(s.text, "...") {
				if part = strings.TrimSpace(part); !strings.Contains(source, part) {
					t.Errorf("%s:%d: nothing of ours says %q", p.path, s.line, part)
				}
			}
		}
	}
	if quoted < 10 {
		t.Errorf("found only %d messages", quoted)
	}
}

var (
	metricName   = regexp.MustCompile(`^(servicegroup_[a-z]+|kubeproxy)_[a-z_]+$`)
	metricPrefix = regexp.MustCompile(`^servicegroup_[a-z]+_`)
)

// TestMetricsExist: the metrics of ours that pages name.
func TestMetricsExist(t *testing.T) {
	source, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, p := range allPages(t) {
		for _, s := range p.spans {
			if !metricName.MatchString(s.text) {
				continue
			}
			named++
			short := metricPrefix.ReplaceAllString(s.text, "")
			if !strings.Contains(source, strconv.Quote(short)) && !strings.Contains(source, strconv.Quote(s.text)) {
				t.Errorf("%s:%d: there is no metric %s", p.path, s.line, s.text)
			}
		}
	}
	if named < 10 {
		t.Errorf("found only %d metrics", named)
	}
}

// sources are the rooms that talk to users.
func sources() (string, error) {
	root, err := lab.ModuleRoot()
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, room := range []string{"api", "controllers", "internal"} {
		err = errors.Join(err, filepath.WalkDir(filepath.Join(root, room), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			content, err := os.ReadFile(path)
			out.Write(content)
			return err
		}))
	}
	return out.String(), err
}
