package nft

import (
	"bytes"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// scratchName is the name of the tables of Probe. It is as long as tableName, so that it can take its
// place in messages that are written already.
const scratchName = "servicecheck"

// Probe finds out whether the kernel takes this layout: it writes it into tables of another name and
// deletes them again in the same transaction, so that no packet and no rule of anybody meets them.
func (t *Tables) Probe() error {
	t.begin()
	for _, f := range []*family{&ipv4, &ipv6} {
		start := len(t.batch.buf)
		if err := t.batch.addTable(f, t.layout); err != nil {
			return err
		}
		t.batch.table(f, unix.NFT_MSG_DELTABLE, 0, nil)
		own := t.batch.buf[start:]
		copy(own, bytes.ReplaceAll(own, []byte(tableName+"\x00"), []byte(scratchName+"\x00")))
	}
	if err := t.flush(); err != nil {
		return fmt.Errorf("trying the layout of the tables: %w", err)
	}
	return nil
}

// Others returns the names of the service proxies whose rules are in the kernel, too, sorted.
func (t *Tables) Others() ([]string, error) {
	found := map[string]bool{}
	for _, f := range []*family{&ipv4, &ipv6} {
		err := t.list(f, unix.NFT_MSG_GETCHAIN, func(attribute map[uint16][]byte) {
			switch table, chain := textOf(attribute[unix.NFTA_CHAIN_TABLE]), textOf(attribute[unix.NFTA_CHAIN_NAME]); {
			case table == "kube-proxy":
				found["kube-proxy in mode nftables"] = true
			case table == "nat" && chain == "KUBE-SERVICES":
				found["kube-proxy in mode iptables"] = true
			}
		})
		if err != nil {
			return nil, err
		}
	}
	var out []string
	for name := range found {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}
