package nft

import (
	"fmt"
	"hash/maphash"
)

const (
	// readAttempts bounds how often a set is read until each of its elements is there once.
	readAttempts = 20
	// stillAttempts is how many of them want the ruleset to stand still. Where other programs write to tables of
	// their own all the time it never does; what they do to ours, the monitor tells.
	stillAttempts = 3
)

// dumpWhole reads a set whole: it calls begin before each attempt, and what the visitor of the last one has seen
// counts. The kernel lists a set in several answers, each from the place in its hash table where the one before
// ended. While the table is growing, which goes on for some time after a large load, the order changes, and then
// elements are listed twice and as many others not at all. So no key may be there twice.
func (t *Tables) dumpWhole(f *family, set string, begin func() (visit func(e rawElement))) error {
	seed := maphash.MakeSeed()
	for attempt := range readAttempts {
		before, err := t.ForeignGenerations()
		if err != nil {
			return err
		}
		visit, twice := begin(), false
		seen := map[uint64]struct{}{}
		err = t.dump(f, set, func(e rawElement) {
			key := e.identity(seed)
			_, known := seen[key]
			seen[key] = struct{}{}
			twice = twice || known
			visit(e)
		})
		if err != nil {
			return err
		}
		after, err := t.ForeignGenerations()
		if err != nil {
			return err
		}
		if !twice && (before == after || attempt >= stillAttempts) {
			return nil
		}
	}
	return fmt.Errorf("reading set %s of table %s: it did not stand still", set, tableName)
}

// identity is the same for no two elements of a set. An end of an interval has the key of the start of the next.
func (e *rawElement) identity(seed maphash.Seed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.Write(e.key)
	_, _ = h.Write(e.keyEnd)
	if e.end {
		_ = h.WriteByte(1)
	}
	return h.Sum64()
}
