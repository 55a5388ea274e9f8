package docs

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestHelmTakesTwoRanges gives the README's line to a shell, with an IPv4 and an IPv6 range: a shell makes two words of braces
// that are not quoted, and Helm would take the second for a chart.
func TestHelmTakesTwoRanges(t *testing.T) {
	root, err := lab.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	const install, ranges = "helm upgrade --install ", "10.244.0.0/16,fd00:10:244::/48"
	var line string
	for _, p := range allPages(t) {
		for _, b := range p.blocks {
			if p.path == "README.md" && strings.HasPrefix(b.text, install) {
				line = b.text
			}
		}
	}
	template := strings.Replace(line, install, filepath.Join(root, "bin", "helm")+" template ", 1)
	template = regexp.MustCompile(`clusterCIDRs=\{[^}]*\}`).ReplaceAllString(template, "clusterCIDRs={"+ranges+"}")
	cmd := exec.CommandContext(t.Context(), "bash", "-c", template)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--cluster-cidr="+ranges) {
		t.Errorf("the agents are not told --cluster-cidr=%s (%v) by\n%s\n%.2000s", ranges, err, template, out)
	}
}
