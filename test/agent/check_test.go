package agent

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// checkOn runs the program's own check on a host.
func checkOn(t *testing.T, host *lab.Host, agent *lab.Process) *agentapi.NodeCheck {
	t.Helper()
	out, err := host.Output(t.Context(), agent.Path(), "agent", "check", "-o", "json")
	if err != nil {
		t.Fatalf("agent check: %v: %s", err, out)
	}
	check := &agentapi.NodeCheck{}
	if err := json.Unmarshal([]byte(out), check); err != nil {
		t.Fatal(err)
	}
	return check
}

// useLegacyIptables makes programs that the test starts find the legacy iptables under the usual names.
func (b *bed) useLegacyIptables(t *testing.T) {
	t.Helper()
	program, err := exec.LookPath("xtables-legacy-multi")
	if err == nil {
		_, err = b.node.Output(t.Context(), "iptables-legacy", "-t", "nat", "-S")
	}
	if err != nil {
		t.Skipf("SKIPPED, legacy iptables is not to be had here, neither as program nor in the kernel: %v", err)
	}
	folder := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, part := range []string{"", "-save", "-restore"} {
			if err := os.Symlink(program, filepath.Join(folder, name+part)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
}

// TestCheckSeesEveryKubeProxy: in whatever of the kernel's tables it has its rules.
func TestCheckSeesEveryKubeProxy(t *testing.T) {
	b := requireBed(t)
	agent := b.startAgent(t)
	for _, test := range []struct {
		mode, want string
		legacy     bool
	}{
		{"nftables", "kube-proxy in mode nftables", false},
		{"iptables", "kube-proxy in mode iptables", false},
		{"iptables", "kube-proxy in mode iptables (legacy)", true},
	} {
		t.Run(test.want, func(t *testing.T) {
			if test.legacy {
				b.useLegacyIptables(t)
			}
			if got := checkOn(t, b.node.Host, agent).Proxies; len(got) > 0 {
				t.Fatalf("before kube-proxy was started: %v", got)
			}
			proxy := b.startKubeProxy(t, test.mode)
			check := checkOn(t, b.node.Host, agent)
			if !slices.Equal(check.Proxies, []string{test.want}) {
				t.Errorf("seen: %v, want %s", check.Proxies, test.want)
			}
			for _, p := range check.Probes {
				if p.Problem != "" {
					t.Errorf("%s: %s", p.Name, p.Problem)
				}
			}
			b.cleanUp(t, proxy)
			if got := checkOn(t, b.node.Host, agent).Proxies; len(got) > 0 {
				t.Errorf("after its rules were removed: %v", got)
			}
		})
	}
}

// TestCheckSeesKubeProxyOfOneFamily: a cluster may have IPv6 only.
func TestCheckSeesKubeProxyOfOneFamily(t *testing.T) {
	b := requireBed(t)
	b.useLegacyIptables(t)
	agent := b.startAgent(t)
	for _, program := range []string{"iptables", "ip6tables"} {
		host, err := b.Client("legacy-" + program)
		if err != nil {
			t.Fatal(err)
		}
		for _, chain := range []string{"KUBE-SERVICES-OF-ANOTHER", "KUBE-SERVICES"} {
			if out, err := host.Output(t.Context(), program, "-t", "nat", "-N", chain); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			seen := slices.Equal(checkOn(t, host, agent).Proxies, []string{"kube-proxy in mode iptables (legacy)"})
			if want := chain == "KUBE-SERVICES"; seen != want {
				t.Errorf("%s with chain %s: seen %v, want %v", program, chain, seen, want)
			}
		}
	}
}

// TestCheckMakesNoTables: asking the kernel for a legacy table would make it, on a host that has none.
func TestCheckMakesNoTables(t *testing.T) {
	b := requireBed(t)
	agent := b.startAgent(t)
	tables := func() string {
		var out []byte
		for _, family := range []string{"ip", "ip6"} {
			err := b.client.Do(func() error {
				names, err := os.ReadFile("/proc/thread-self/net/" + family + "_tables_names")
				if errors.Is(err, os.ErrNotExist) {
					return nil
				}
				out = append(out, names...)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return string(out)
	}
	if before := tables(); before != "" {
		t.Fatalf("the client has tables: %q", before)
	}
	checkOn(t, b.client, agent)
	if after := tables(); after != "" {
		t.Errorf("the check made tables: %q", after)
	}
}
