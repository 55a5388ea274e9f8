package node

import (
	"errors"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// program commits what is to be served for the Services of these names, and the ranges if they changed:
// as the difference to the state, or, if full, to what is found in the kernel, or, if that is not our
// layout or could not be put right the last time, as all there is.
func (a *Agent) program(full bool, names []types.NamespacedName, ranges *ruleset.Ranges) (ruleset.Result, error) {
	if full {
		exist, err := a.tables.Exist()
		if err != nil {
			return ruleset.Result{}, err
		}
		if !exist {
			return a.load(names, ranges)
		}
	}
	services, err := a.build(names)
	if err != nil {
		return ruleset.Result{}, err
	}
	update := ruleset.Update{Services: services, Ranges: ranges}
	var result ruleset.Result
	if full {
		result, err = a.programAll(update)
	} else {
		result = a.state.Apply(update)
		err = a.commit(&result.Change, a.tables.Commit)
	}
	if err == nil {
		a.answerHealthChecks(services)
	}
	return result, err
}

// programAll commits an update that is all there is to serve to tables that exist.
func (a *Agent) programAll(update ruleset.Update) (ruleset.Result, error) {
	found, ok, err := a.tables.Read()
	if err == nil && ok && a.failures < 2 {
		state, result := ruleset.Adopt(found, update, a.former)
		a.state = state
		return result, a.commitLong(&result.Change, a.tables.Commit)
	}
	a.state = a.newState()
	result := a.state.Renew(a.sessions(), update)
	return result, a.commitLong(&result.Change, a.tables.Replace)
}

// sessions are what session affinity remembers in tables that are going to be replaced. It is not worth
// failing twice: without it clients choose anew.
func (a *Agent) sessions() ruleset.Sessions {
	if a.failures > 0 {
		return ruleset.Sessions{}
	}
	sessions, err := a.tables.Sessions()
	if err != nil {
		a.options.Log.Error(err, "Session affinity starts anew with the tables")
	}
	return sessions
}

// newState returns the state of tables without elements, for what the Services had before.
func (a *Agent) newState() *ruleset.State {
	state := ruleset.NewState()
	if a.counts != nil {
		state = ruleset.NewCountingState()
	}
	state.Inherit(a.former)
	return state
}

// longChange is the number of elements from which on the guard does not listen to a transaction of
// ours: the kernel would tell it of each element.
const longChange = 5000

// commitLong commits a change that may be long.
func (a *Agent) commitLong(change *ruleset.Change, write func(*ruleset.Change) error) error {
	commit := func() error { return a.commit(change, write) }
	if len(change.Add)+len(change.Delete)+len(change.Remember) < longChange {
		return commit()
	}
	return a.unwatched(commit)
}

// unwatched commits something long while the guard does not listen. What somebody else did meanwhile
// shows in the number of generations of the ruleset.
func (a *Agent) unwatched(commit func() error) error {
	if err := a.guard.monitor.Pause(); err != nil {
		return err
	}
	before, err := a.tables.ForeignGenerations()
	err = errors.Join(err, commit(), a.guard.monitor.Resume())
	if err != nil {
		return err
	}
	after, err := a.tables.ForeignGenerations()
	if after != before {
		a.guard.raise()
	}
	return err
}

func (a *Agent) commit(change *ruleset.Change, write func(*ruleset.Change) error) error {
	a.flows.announce(change.UDP)
	if err := write(change); err != nil {
		return err
	}
	a.metrics.wrote(change)
	a.flows.add(change.UDP)
	if len(change.Forget) > 0 {
		a.stranded.look()
	}
	if !change.Empty() {
		a.options.Log.V(1).Info("Programmed", "added", len(change.Add), "deleted", len(change.Delete), "bytes", a.tables.BatchSize())
	}
	return nil
}
