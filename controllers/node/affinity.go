package node

import (
	"context"
	"time"

	"github.com/go-logr/logr"

	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// forgetPause is how long after an endpoint left session affinity is looked through for it again. No
// packet is on its way through the tables for that long.
const forgetPause = time.Second

// strandedClients finds the clients that session affinity binds to endpoints that left. The kernel takes seconds
// to list a full affinity map, so this goes on beside the programming; the clients it finds are released by the
// loop, some at a time. Packets that were on their way when their endpoint left are learned from afterwards, and
// would send whoever goes on making connections there ever after: so the map is read until it has no such client,
// the last time no sooner than forgetPause after an endpoint left.
type strandedClients struct {
	log logr.Logger
	// tables are for reading.
	tables *nft.Tables
	serves func(ruleset.Forget) bool
	// found are clients to release.
	found chan nft.Stranded
	// wake has room for one signal: that an endpoint left.
	wake chan struct{}
}

func newStrandedClients(log logr.Logger, serves func(ruleset.Forget) bool) (*strandedClients, error) {
	s := &strandedClients{log: log, serves: serves, found: make(chan nft.Stranded), wake: make(chan struct{}, 1)}
	return s, s.connect()
}

func (s *strandedClients) connect() error {
	tables, err := nft.Open(nft.Layout{})
	if err != nil {
		return err
	}
	if s.tables != nil {
		s.tables.Close()
	}
	s.tables = tables
	return nil
}

// look makes the map be read soon.
func (s *strandedClients) look() {
	select {
	case s.wake <- struct{}{}:
	default: // somebody has signalled already
	}
}

// run reads the map when it is told to, until ctx ends.
func (s *strandedClients) run(ctx context.Context) {
	defer func() { s.tables.Close() }()
	// settled is when a reading without a stranded client is the last one.
	var settled time.Time
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			settled = time.Now().Add(forgetPause)
		case <-again:
		}
		started := time.Now()
		found, err := s.tables.Stranded(s.serves)
		took := time.Since(started)
		if err != nil {
			s.log.Error(err, "Clients of endpoints that left are looked for again")
			if err := s.connect(); err != nil {
				s.log.Error(err, "Connecting to nftables anew failed")
			}
		}
		if !s.hand(ctx, found) || !pause(ctx, took) { // a core is busy with it half of the time at most
			return
		}
		switch {
		case err != nil:
			again = time.After(forgetPause)
		case len(found) > 0:
			again = time.After(0)
		case started.Before(settled):
			again = time.After(time.Until(settled))
		default:
			again = nil
		}
	}
}

// hand gives clients to the loop, and reports whether it took all of them before ctx ended.
func (s *strandedClients) hand(ctx context.Context, found []nft.Stranded) bool {
	for _, clients := range found {
		select {
		case <-ctx.Done():
			return false
		case s.found <- clients:
		}
	}
	return true
}

// serves reports whether clients that are bound to an endpoint may stay there. While that is not known they stay:
// the map is read again after the sync that finds it out.
func (a *Agent) serves(client ruleset.Forget) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state == nil || a.state.Serves(client)
}

// release makes session affinity forget clients, unless their endpoint has come back.
func (a *Agent) release(clients nft.Stranded) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == nil || a.state.Serves(clients.Forget) {
		return nil
	}
	return a.tables.Release(clients)
}
