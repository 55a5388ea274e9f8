package nft_test

import (
	"slices"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

func TestProbeLeavesNothingBehind(t *testing.T) {
	for _, layout := range []nft.Layout{{}, {CountConnections: true}} {
		tables, state := openLayout(t, layout), ruleset.NewState()
		change := state.Apply(dualStackUpdate()).Change
		if err := tables.Replace(&change); err != nil {
			t.Fatal(err)
		}
		before := runNFT(t, "", "list", "ruleset")
		if err := tables.Probe(); err != nil {
			t.Fatal(err)
		}
		if after := runNFT(t, "", "list", "ruleset"); after != before {
			t.Errorf("the ruleset changed from\n%s\nto\n%s", before, after)
		}
	}
}

func TestOtherProxiesAreSeen(t *testing.T) {
	tables := openTables(t)
	if got, err := tables.Others(); err != nil || len(got) > 0 {
		t.Fatalf("without any: %v, %v", got, err)
	}
	runNFT(t, "table ip kube-proxy { chain services { }; }\ntable ip6 nat { chain KUBE-SERVICES { }; }\n", "-f", "-")
	want := []string{"kube-proxy in mode iptables", "kube-proxy in mode nftables"}
	if got, err := tables.Others(); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}
