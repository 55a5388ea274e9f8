package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// keep stays up until Ctrl-C and says how to look around.
func (d *demo) keep(ctx context.Context) {
	rc, err := d.writeShellSetup()
	if err != nil {
		fmt.Fprintln(d.out, "demo:", err)
		return
	}
	fmt.Fprintf(d.out, `
The cluster stays up until Ctrl-C. In another terminal, enter it with

    %s bash --rcfile %s

(KUBECONFIG is %s there), and try

    kubectl get svcg,svc,endpointslices,pods -o wide
    kubectl explain svcg.spec.ports.backends
    curl %s:80
    ip netns exec visitor curl -s %s:8080
    ip netns exec client curl -s %s:30001
    ip netns exec node1 nft list ruleset
    ls %s
`, lab.EnterCommand(), rc, d.lab.ControlPlane.Kubeconfig(),
		d.frontend.pods[0].IPv4, d.vip, d.lab.Nodes()[0].IPv4, filepath.Join(d.lab.ControlPlane.Dir(), "*.log"))
	<-ctx.Done()
	fmt.Fprintln(d.out, "\nTaking the cluster down.")
}

// writeShellSetup writes what a shell in the lab starts with, and returns its path.
func (d *demo) writeShellSetup() (string, error) {
	root, err := lab.ModuleRoot()
	if err != nil {
		return "", err
	}
	var setup strings.Builder
	for _, variable := range d.lab.ControlPlane.KubectlEnv() {
		fmt.Fprintf(&setup, "export %q\n", variable)
	}
	path := strings.Join([]string{os.Getenv("KUBEBUILDER_ASSETS"), filepath.Join(root, "bin", "k8s"), "$PATH", "/usr/sbin:/sbin"}, ":")
	fmt.Fprintf(&setup, "export PATH=\"%s\"\ncd %q\nPS1='lab# '\n", strings.TrimPrefix(path, ":"), root)
	file := filepath.Join(d.lab.ControlPlane.Dir(), "shell")
	if err := os.WriteFile(file, []byte(setup.String()), 0o600); err != nil {
		return "", fmt.Errorf("writing the setup of a shell: %w", err)
	}
	return file, nil
}

// missingTools says in one sentence which programs for looking around are missing; the demo itself needs none of
// them.
func missingTools() string {
	var tools, packages []string
	for _, tool := range []struct{ name, debianPackage string }{{"nft", "nftables"}, {"ip", "iproute2"}, {"curl", "curl"}} {
		if _, err := exec.LookPath(tool.name); err != nil {
			tools, packages = append(tools, tool.name), append(packages, tool.debianPackage)
		}
	}
	if len(tools) == 0 {
		return ""
	}
	return fmt.Sprintf("To look around with KEEP=1, get what is missing here (%s): apt-get install %s\n", strings.Join(tools, ", "), strings.Join(packages, " "))
}
