package node

import (
	"context"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/servicegroup-dev/servicegroup/internal/conntrack"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// staleFlows ends UDP flows to endpoints that left, beside the programming: the kernel goes through its
// whole table of connections for it. What changes meanwhile is looked for in one go.
type staleFlows struct {
	table *conntrack.Table
	ended prometheus.Counter
	log   logr.Logger

	mu      sync.Mutex
	pending map[proxy.Key]ruleset.Serving
	// changing are the frontends whose change is being committed.
	changing map[proxy.Key]struct{}
	// wake has room for one signal: that there is something pending.
	wake chan struct{}
}

func newStaleFlows(ended prometheus.Counter, log logr.Logger) (*staleFlows, error) {
	table, err := conntrack.Open()
	if err != nil {
		return nil, err
	}
	return &staleFlows{
		table: table, ended: ended, log: log, wake: make(chan struct{}, 1),
		pending: map[proxy.Key]ruleset.Serving{}, changing: map[proxy.Key]struct{}{},
	}, nil
}

// announce takes in frontends whose change is about to be committed: from then on what run knows of them
// is old.
func (s *staleFlows) announce(changed []ruleset.Serving) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changed {
		s.changing[changed[i].Key] = struct{}{}
	}
}

// superseded says whether a frontend has changed since run took it.
func (s *staleFlows) superseded(key proxy.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, changing := s.changing[key]
	_, pending := s.pending[key]
	return changing || pending
}

// add takes in frontends whose change is committed.
func (s *staleFlows) add(changed []ruleset.Serving) {
	if len(changed) == 0 {
		return
	}
	s.mu.Lock()
	for _, serving := range changed {
		s.pending[serving.Key] = serving
		delete(s.changing, serving.Key)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default: // somebody has signalled already
	}
}

// settle takes in frontends that are gone, and those that went with a change of which it is not known
// whether it was committed. Every other one has been added since.
func (s *staleFlows) settle(gone []ruleset.Serving) {
	s.mu.Lock()
	for key := range s.changing {
		gone = append(gone, ruleset.Serving{Key: key})
	}
	s.mu.Unlock()
	s.add(gone)
}

// run works off what is pending until ctx ends.
func (s *staleFlows) run(ctx context.Context) {
	defer s.table.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		s.mu.Lock()
		pending := s.pending
		s.pending = map[proxy.Key]ruleset.Serving{}
		s.mu.Unlock()
		list := make([]ruleset.Serving, 0, len(pending))
		for _, serving := range pending {
			list = append(list, serving)
		}
		slices.SortFunc(list, func(x, y ruleset.Serving) int { return x.Key.Compare(y.Key) })
		// The rules are right already; a flow that could not be ended is no reason to write them anew.
		ended, err := s.table.DeleteStale(list, s.superseded)
		s.ended.Add(float64(ended))
		if err != nil {
			s.log.Error(err, "Some UDP flows may go on to pods that have left until they are idle")
		}
	}
}
