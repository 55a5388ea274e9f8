package nft_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/nft"
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

// TestClientsAreRememberedByTablesOfAnotherLayout: with their time and in both families, unless their endpoint
// is gone.
func TestClientsAreRememberedByTablesOfAnotherLayout(t *testing.T) {
	before, state := openTables(t), ruleset.NewState()
	change := state.Apply(dualStackUpdate()).Change
	if err := before.Replace(&change); err != nil {
		t.Fatal(err)
	}
	type client struct {
		ruleset.Remembered
		stays bool
	}
	var clients []client
	for family, addr := range map[string]string{"ipv4": "10.244.9.9", "ipv6": "fd00::9"} {
		share := ruleset.SharesOf(state.Elements(), family == "ipv4")[0]
		known := endpoints(family, 6) // of which five serve at most
		for i, ep := range []int{0, 5} {
			at := netip.MustParseAddr(addr)
			for range i {
				at = at.Next()
			}
			clients = append(clients, client{ruleset.Remembered{Client: at, Share: share, Endpoint: known[ep], Seconds: 600}, i == 0})
		}
	}
	// A packet of each would do the same.
	for _, c := range clients {
		family := map[bool]string{true: "ip", false: "ip6"}[c.Client.Is4()]
		runNFT(t, fmt.Sprintf("add element %s servicegroup affinity { %s . %x:%x timeout %ds : %s . %d }\n",
			family, c.Client, c.Share>>16, c.Share&0xffff, c.Seconds, c.Endpoint.Addr, c.Endpoint.Port), "-f", "-")
	}

	after, err := nft.Open(nft.Layout{CountConnections: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(after.Close)
	if _, ours, err := after.Read(); ours || err != nil {
		t.Fatalf("the layout is the same: %v", err)
	}
	sessions, err := after.Sessions()
	if err != nil {
		t.Fatal(err)
	}
	state = ruleset.NewCountingState()
	change = state.Renew(sessions, dualStackUpdate()).Change
	if err := after.Replace(&change); err != nil {
		t.Fatal(err)
	}
	requireEqualKernel(t, after, state)
	for _, c := range clients {
		entry, found, err := after.Remembered(c.Client, c.Share)
		switch {
		case err != nil || found != c.stays:
			t.Errorf("%s of %s is remembered: %v, %v", c.Client, c.Endpoint, found, err)
		case found && (entry.Endpoint != c.Endpoint || entry.Seconds < c.Seconds-10 || entry.Seconds > c.Seconds):
			t.Errorf("remembered is %s, want %s", entry, c.Remembered)
		}
	}
}

// TestStrandedClientsAreReleasedThoughSomeRunOut takes some of the clients away between the reading and the
// deleting, as the kernel does with those whose time is over.
func TestStrandedClientsAreReleasedThoughSomeRunOut(t *testing.T) {
	for _, family := range []string{"ip", "ip6"} {
		tables, state := openTables(t), ruleset.NewState()
		change := state.Apply(dualStackUpdate()).Change
		if err := tables.Replace(&change); err != nil {
			t.Fatal(err)
		}
		known := endpoints(map[string]string{"ip": "ipv4", "ip6": "ipv6"}[family], 6) // of which five serve at most
		share := ruleset.SharesOf(state.Elements(), family == "ip")[0]
		at := netip.MustParseAddr(map[string]string{"ip": "10.245.0.0", "ip6": "fd00:1::"}[family])
		element := func(client netip.Addr) string { return fmt.Sprintf("%s . %x:%x", client, share>>16, share&0xffff) }
		const bound = 1000
		var script, gone strings.Builder
		for i := range bound + 1 {
			at = at.Next()
			endpoint := known[5]
			if i == bound {
				endpoint = known[0]
			}
			fmt.Fprintf(&script, "add element %s servicegroup affinity { %s timeout 600s : %s . %d }\n", family, element(at), endpoint.Addr, endpoint.Port)
			if i%7 == 0 {
				fmt.Fprintf(&gone, "delete element %s servicegroup affinity { %s }\n", family, element(at))
			}
		}
		runNFT(t, script.String(), "-f", "-")
		stranded, err := tables.Stranded(state.Serves)
		if err != nil || len(stranded) < 2 {
			t.Fatalf("%d batches are stranded, %v; want several", len(stranded), err)
		}
		runNFT(t, gone.String(), "-f", "-")
		for range 2 { // the second time, none of them is there
			for _, clients := range stranded {
				if err := tables.Release(clients); err != nil {
					t.Fatal(err)
				}
			}
		}
		sessions, err := tables.Sessions()
		if err != nil {
			t.Fatal(err)
		}
		if clients := sessions.Clients; len(clients) != 1 || clients[0].Client != at || clients[0].Endpoint != known[0] {
			t.Errorf("remembered are %v, want %s of %s alone", clients, at, known[0])
		}
	}
}

// TestThereAreNoSessionsWithoutTables: nor an error.
func TestThereAreNoSessionsWithoutTables(t *testing.T) {
	sessions, err := openTables(t).Sessions()
	if err != nil || len(sessions.Clients)+len(sessions.Shares) > 0 {
		t.Errorf("%+v, %v", sessions, err)
	}
}
