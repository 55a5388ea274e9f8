package lab

import (
	"strings"
	"testing"
)

func TestFailedProgramShowsItsLog(t *testing.T) {
	network, _ := newTestNetwork(t)
	p := program{
		name: "broken", path: "/bin/sh", args: []string{"-c", "echo the reason; exit 3"},
		host: network.Fabric, dir: t.TempDir(), health: "http://127.0.0.1:1/",
	}
	_, err := p.start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the reason") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

func TestMissingProgramSaysWhatToRun(t *testing.T) {
	t.Setenv("KUBEBUILDER_ASSETS", t.TempDir())
	_, err := kubernetesBinary("kube-nothing")
	if want := "kube-nothing is missing: run `make tools`"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
