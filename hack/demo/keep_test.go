package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMissingTools(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for _, step := range []struct{ installed, want string }{
		{"curl", "To look around with KEEP=1, get what is missing here (nft, ip): apt-get install nftables iproute2\n"},
		{"ip", "To look around with KEEP=1, get what is missing here (nft): apt-get install nftables\n"},
		{"nft", ""},
	} {
		if err := os.WriteFile(filepath.Join(dir, step.installed), nil, 0o755); err != nil {
			t.Fatal(err)
		}
		if got := missingTools(); got != step.want {
			t.Errorf("with %s: %q, want %q", step.installed, got, step.want)
		}
	}
}
