package node

import (
	"time"

	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// forgetPause is how long after an endpoint left session affinity is looked through for it again. No
// packet is on its way through the tables for that long.
const forgetPause = time.Second

// lateClients are clients of endpoints that left, which session affinity has forgotten, and which it may
// have learned again from a packet that was on its way when they were. Whoever goes on making
// connections would be sent to such an endpoint, and remembered for it, ever after.
type lateClients struct {
	list []lateClient
	// due is when to look for the first of them; nil if there is none.
	due <-chan time.Time
}

type lateClient struct {
	ruleset.Forget
	at time.Time
}

func (l *lateClients) add(list []ruleset.Forget) {
	at := time.Now().Add(forgetPause)
	for _, f := range list {
		l.list = append(l.list, lateClient{f, at})
	}
	l.arm()
}

// take returns those that are due.
func (l *lateClients) take() []ruleset.Forget {
	var out []ruleset.Forget
	for len(l.list) > 0 && !l.list[0].at.After(time.Now()) {
		out = append(out, l.list[0].Forget)
		l.list = l.list[1:]
	}
	l.due = nil
	l.arm()
	return out
}

func (l *lateClients) arm() {
	if l.due == nil && len(l.list) > 0 {
		l.due = time.After(time.Until(l.list[0].at))
	}
}

// forgetLate looks for late clients, and for those it has found once more later.
func (a *Agent) forgetLate() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.state.StillGone(a.late.take())
	found, err := a.tables.Forget(list)
	if found || err != nil {
		a.late.add(list)
	}
	return err
}
