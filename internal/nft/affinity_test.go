package nft_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

func TestRememberedClientsAreLookedUp(t *testing.T) {
	tables, state := openTables(t), ruleset.NewState()
	if entry, found, err := tables.Remembered(netip.MustParseAddr("10.244.9.9"), 1); found || err != nil {
		t.Errorf("without tables: %v, %v, %v", entry, found, err)
	}
	change := state.Apply(dualStackUpdate()).Change
	if err := tables.Replace(&change); err != nil {
		t.Fatal(err)
	}
	const share, written = 0x10002, "1:2" // nft writes such a number as that of a traffic class
	for family, one := range map[string]struct{ client, other string }{"ip": {"10.244.9.9", "10.244.9.8"}, "ip6": {"fd00::9", "fd00::8"}} {
		client, endpoint := netip.MustParseAddr(one.client), endpoints(map[string]string{"ip": "ipv4", "ip6": "ipv6"}[family], 1)[0]
		runNFT(t, fmt.Sprintf("add element %s servicegroup affinity { %s . %s timeout 600s : %s . %d }\n",
			family, client, written, endpoint.Addr, endpoint.Port), "-f", "-")
		entry, found, err := tables.Remembered(client, share)
		if !found || err != nil || entry.Seconds < 590 || entry.Seconds > 600 {
			t.Fatalf("%s is remembered: %v for %d seconds, %v", client, found, entry.Seconds, err)
		}
		entry.Seconds = 0
		if want := (ruleset.Remembered{Client: client, Share: share, Endpoint: endpoint}); entry != want {
			t.Errorf("%+v, want %+v", entry, want)
		}
		for other, number := range map[string]uint32{one.other: share, one.client: 2} {
			if entry, found, err := tables.Remembered(netip.MustParseAddr(other), number); found || err != nil {
				t.Errorf("%s by %d: %v, %v, %v", other, number, entry, found, err)
			}
		}
	}
}
