package node

import (
	"time"

	"github.com/go-logr/logr"

	"github.com/servicegroup-dev/servicegroup/internal/nft"
)

// repairPause is the least time between two alarms, so that a program that changes our tables all the
// time does not keep the agent from its work.
const repairPause = time.Second

// blindPause is the time between two looks while notifications cannot be read.
const blindPause = 30 * time.Second

// guard raises an alarm when somebody else changed our tables.
type guard struct {
	monitor *nft.Monitor
	log     logr.Logger
	// alarm has room for one change that was not looked at yet.
	alarm chan struct{}
	stop  chan struct{}
}

func newGuard(log logr.Logger, ours func(portID uint32) bool) (*guard, error) {
	monitor, err := nft.OpenMonitor(ours)
	if err != nil {
		return nil, err
	}
	g := &guard{monitor: monitor, log: log, alarm: make(chan struct{}, 1), stop: make(chan struct{})}
	go g.run()
	return g, nil
}

func (g *guard) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		rest := repairPause
		if err := g.monitor.Wait(); err != nil {
			select {
			case <-g.stop: // closed, as it should be
				return
			default:
			}
			g.log.Error(err, "Changes that others make to our nftables may go unnoticed; looking now and then instead")
			rest = blindPause
		}
		g.raise()
		// What happens during the pause waits in the socket, and is found after it.
		timer.Reset(rest)
		select {
		case <-g.stop:
			return
		case <-timer.C:
		}
	}
}

func (g *guard) raise() {
	select {
	case g.alarm <- struct{}{}:
	default: // one is waiting already
	}
}

func (g *guard) close() {
	close(g.stop)
	g.monitor.Close()
}
