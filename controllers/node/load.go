package node

import (
	"maps"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// batch is some of the Services of a load, with the writes that bring them to the kernel.
type batch struct {
	services map[types.NamespacedName]*proxy.Service
	result   ruleset.Result
	err      error
}

// load programs everything into a network namespace that has no tables of ours. There is nothing yet
// that a packet could see half of, so it takes several transactions, each with whole Services: one
// batch is computed while the kernel is busy with the one before, and between two of them the kernel
// has time to enlarge its hash tables, without which it would need twice as long for the same elements.
func (a *Agent) load(names []types.NamespacedName, ranges *ruleset.Ranges) (ruleset.Result, error) {
	a.state = a.newState()
	total := ruleset.Result{Conflicts: map[proxy.Key]types.NamespacedName{}}
	return total, a.unwatched(func() error {
		var flows ruleset.Change
		stop := make(chan struct{})
		batches := a.computeBatches(names, ranges, stop)
		defer func() {
			close(stop)
			for range batches { // until nothing is computed any more
			}
		}()
		write := a.tables.Replace
		for b := range batches {
			if b.err != nil {
				return b.err
			}
			// Stale flows are looked for once, in the end.
			flows.UDP = append(flows.UDP, b.result.Change.UDP...)
			a.flows.announce(b.result.Change.UDP)
			b.result.Change.UDP = nil
			if err := a.commit(&b.result.Change, write); err != nil {
				return err
			}
			write = a.tables.Commit
			maps.Copy(total.Conflicts, b.result.Conflicts)
			a.answerHealthChecks(b.services)
		}
		return a.commit(&flows, func(*ruleset.Change) error { return nil })
	})
}

// firstBatch is the number of Services in the first batches of a load.
const firstBatch = 256

// computeBatches computes the batches of a load one after the other, at least one. Their length grows
// with what is done: the more the tables hold, the longer the kernel takes to validate them after each.
func (a *Agent) computeBatches(names []types.NamespacedName, ranges *ruleset.Ranges, stop <-chan struct{}) <-chan batch {
	out := make(chan batch, 1)
	state := a.state
	go func() {
		defer close(out)
		for done := 0; done == 0 || done < len(names); {
			some := names[done:min(len(names), done+max(firstBatch, done/8))]
			var b batch
			if b.services, b.err = a.build(some); b.err == nil {
				b.result = state.Apply(ruleset.Update{Services: b.services, Ranges: ranges})
			}
			select {
			case out <- b:
			case <-stop:
				return
			}
			if b.err != nil || len(some) == 0 {
				return
			}
			ranges = nil
			done += len(some)
		}
	}()
	return out
}
