package node

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// build computes the proxy model of the Services of these names, on all cores when they are many.
func (a *Agent) build(names []types.NamespacedName) (map[types.NamespacedName]*proxy.Service, error) {
	node := a.node
	if a.watcher.serviceCIDRs == nil {
		node.IsVirtualIP = a.watcher.isVirtualIP
	}
	built := make([]*proxy.Service, len(names))
	workers := min(runtime.GOMAXPROCS(0), 1+len(names)/buildsPerWorker)
	errs := make([]error, workers)
	left := make([][]proxy.Key, len(names))
	strays := make([][]proxy.Ignored, len(names))
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := w; i < len(names); i += workers {
				service, endpointSlices, err := a.watcher.service(names[i])
				if err != nil {
					errs[w] = fmt.Errorf("reading Service %s: %w", names[i], err)
					return
				}
				if service != nil {
					one := proxy.Build(service, endpointSlices, node)
					left[i] = a.leaveToListeners(names[i], &one)
					built[i] = &one
				} else {
					strays[i] = a.watcher.strays(names[i])
				}
				if a.counts != nil {
					a.counts.note(names[i], service, endpointSlices, built[i])
				}
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	out := make(map[types.NamespacedName]*proxy.Service, len(names))
	for i, name := range names {
		out[name] = built[i]
		if built[i] != nil {
			a.ignored.note(name, built[i].Ignored)
		} else {
			a.ignored.noteStrays(name, strays[i])
		}
		a.metrics.collisions.Add(float64(a.listeners.leave(name, left[i])))
	}
	return out, nil
}

// buildsPerWorker is the number of Services from which on a second core is worth its start.
const buildsPerWorker = 256

// answerHealthChecks answers load balancers on the health-check NodePorts of these Services, where NodePorts do.
func (a *Agent) answerHealthChecks(services map[types.NamespacedName]*proxy.Service) {
	addresses := a.node.NodePortAddresses
	if a.nodePorts.everywhere() {
		addresses = []netip.Addr{{}}
	}
	a.checks.set(services, addresses)
}
