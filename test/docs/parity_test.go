package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName    = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	testPackage = regexp.MustCompile(`\./(\S+)`)
)

// TestParityNamesTestsThatRun: each line of parity.md names tests, and make test-dataplane runs them all.
func TestParityNamesTestsThatRun(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_, recipe, _ := strings.Cut(string(makefile), "\ntest-dataplane:")
	recipe, _, _ = strings.Cut(recipe, "\n\n")
	var sources strings.Builder
	for _, match := range testPackage.FindAllStringSubmatch(recipe, -1) {
		files, err := filepath.Glob(filepath.Join("../..", strings.TrimSuffix(match[1], "/..."), "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("make test-dataplane runs %s, which has no tests (%v)", match[1], err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(text)
		}
	}
	parity, err := os.ReadFile("../../docs/parity.md")
	if err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(string(parity), "## Differences")
	for line := range strings.Lines(string(parity)) {
		names := testName.FindAllStringSubmatch(line, -1)
		for _, name := range names {
			if !strings.Contains(sources.String(), "func "+name[1]+"(") {
				t.Errorf("parity.md names %s, which make test-dataplane does not run", name[1])
			}
		}
		row := strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| **") && !strings.HasPrefix(line, "| Behaviour")
		if row && strings.Contains(table, line) && len(names) == 0 && !strings.Contains(line, "the listing: ") {
			t.Errorf("no test is named: %s", line)
		}
	}
}
