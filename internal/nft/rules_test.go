package nft_test

import (
	"strings"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// commentOf returns the comment that our IPv6 table has.
func commentOf(t *testing.T) string {
	t.Helper()
	_, rest, _ := strings.Cut(runNFT(t, "", "list", "table", "ip6", "servicegroup"), `comment "`)
	comment, _, _ := strings.Cut(rest, `"`)
	return comment
}

// handleOf returns the handle of the first rule of one of our chains: the same in every table that was just written.
func handleOf(t *testing.T, family, chain string) string {
	t.Helper()
	_, rest, _ := strings.Cut(runNFT(t, "", "-a", "list", "chain", family, "servicegroup", chain), "chain "+chain)
	for line := range strings.Lines(rest) {
		if _, handle, found := strings.Cut(line, "# handle "); found && !strings.Contains(line, "{") {
			return strings.TrimSpace(handle)
		}
	}
	t.Fatalf("chain %s has no rule:\n%s", chain, rest)
	return ""
}

func TestReadTellsOurLayoutFromOthers(t *testing.T) {
	tables, state := openTables(t), ruleset.NewState()
	read := func() (ruleset.Tables, bool) {
		t.Helper()
		found, ok, err := tables.Read()
		if err != nil {
			t.Fatal(err)
		}
		return found, ok
	}
	if _, ok := read(); ok {
		t.Error("there are no tables, and they are said to be ours")
	}
	change := state.Apply(dualStackUpdate()).Change
	if err := tables.Replace(&change); err != nil {
		t.Fatal(err)
	}
	found, ok := read()
	if !ok {
		t.Fatal("tables that were just written are not recognised")
	}
	if _, result := ruleset.Adopt(found, dualStackUpdate(), nil); len(result.Change.Add)+len(result.Change.Delete)+len(result.Change.AddChains)+len(result.Change.DeleteChains) > 0 {
		t.Errorf("adopting tables that are right writes %+v", result.Change)
	}
	for _, tamper := range []string{
		"flush chain ip servicegroup rejecting",
		"add rule ip6 servicegroup prerouting drop",
		"replace rule ip servicegroup rejecting handle " + handleOf(t, "ip", "rejecting") + " meta l4proto udp reject with icmp type host-unreachable",
		"replace rule ip6 servicegroup prerouting handle " + handleOf(t, "ip6", "prerouting") + " ip6 daddr . meta l4proto . th dport vmap @checked-frontends",
		"replace rule ip servicegroup refuse-forward handle " + handleOf(t, "ip", "refuse-forward") + " ct state new jump rejecting",
		"replace rule ip servicegroup source-ranges handle " + handleOf(t, "ip", "source-ranges") + " ip daddr . meta l4proto . th dport . ip saddr @source-ranges drop",
		"add chain ip servicegroup foreign",
		"add chain ip servicegroup postrouting { policy drop; }",
		"add table ip6 servicegroup { flags dormant; comment \"" + commentOf(t) + "\"; }",
		"delete table ip6 servicegroup",
	} {
		if err := tables.Replace(&change); err != nil {
			t.Fatal(err)
		}
		runNFT(t, tamper+"\n", "-f", "-")
		if _, ok := read(); ok {
			t.Errorf("after %q the layout is said to be ours", tamper)
		}
	}
}

// TestReadKnowsEveryLayoutAgain: a restarted agent would replace its own tables otherwise.
func TestReadKnowsEveryLayoutAgain(t *testing.T) {
	for _, layout := range []nft.Layout{
		{}, {CountConnections: true}, {PodInterface: "cni0"}, {PodInterface: "cali*"}, {PodInterface: "cali*", MasqueradeAll: true},
	} {
		tables, state := openLayout(t, layout), ruleset.NewState()
		if layout.CountConnections {
			state = ruleset.NewCountingState()
		}
		change := state.Apply(dualStackUpdate()).Change
		if err := tables.Replace(&change); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := tables.Read(); !ok || err != nil {
			t.Errorf("%+v is not recognised: %v", layout, err)
		}
	}
}
