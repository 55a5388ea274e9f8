package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/servicegroup-dev/servicegroup/internal/conntrack"
	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// Agent programs the nftables of the network namespace it runs in.
type Agent struct {
	options Options
	watcher *watcher
	metrics *metrics
	health  health
	checks  *healthChecks
	reports *reporter
	// counts knows whose the connections are that the kernel counts; nil if it does not count.
	counts *connectionCounts

	tables *nft.Tables
	// port is where tables writes from, so that the guard knows its own notifications.
	port  atomic.Uint32
	guard *guard
	flows *staleFlows
	// stranded are the clients of endpoints that left.
	stranded *strandedClients
	// listeners keeps NodePorts off the node's own processes.
	listeners listeners
	// state is what the tables hold; nil when that is to be found out. mu is held while it is in
	// flux, for those who want to see it.
	mu    sync.Mutex
	state *ruleset.State
	// former is the last state that was committed as a whole, while state is built anew.
	former *ruleset.State
	// failures counts the syncs that failed since the last one that did not.
	failures int
	node     proxy.Node
	ranges   ruleset.Ranges
	// object is the Node as it was when it last had addresses.
	object *corev1.Node
	// nodePorts says which addresses of the node answer on NodePorts.
	nodePorts nodePorts
	// disputed are the conflicts that were logged, so that each is logged once.
	disputed map[proxy.Key]types.NamespacedName
	ignored  *ignored
}

// New returns an Agent that does nothing yet.
func New(options Options) (*Agent, error) {
	if err := options.Validate(); err != nil {
		return nil, fmt.Errorf("starting the agent: %w", err)
	}
	w, err := newWatcher(&options)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(options.Registerer, options.Mode)
	if err != nil {
		return nil, err
	}
	nodePorts, err := parseNodePorts(options.NodePorts)
	if err != nil {
		return nil, err
	}
	a := &Agent{options: options, watcher: w, metrics: m, nodePorts: nodePorts, disputed: map[proxy.Key]types.NamespacedName{}}
	a.ignored = newIgnored(options.Log, m.ignored, w.mark)
	a.listeners = listeners{log: options.Log, mark: w.mark, left: map[types.NamespacedName][]proxy.Key{}}
	a.checks = newHealthChecks(a.health.healthy, m.healthPorts, options.Log)
	a.reports = newReporter(&options)
	if options.CountConnections {
		a.counts = newConnectionCounts()
		if err := options.Registerer.Register(connectionCollector{a}); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return a, nil
}

// Run keeps the tables equal to the cluster's state until ctx ends. What it has programmed stays in
// the kernel afterwards: a restart disturbs no connection. It returns an error only if it cannot
// start.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.connect(); err != nil {
		return fmt.Errorf("connecting to nftables (the agent needs CAP_NET_ADMIN): %w", err)
	}
	defer func() { a.tables.Close() }()
	var err error
	if a.guard, err = newGuard(a.options.Log, func(port uint32) bool { return port == a.port.Load() }); err != nil {
		return err
	}
	defer a.guard.close()
	if a.flows, err = newStaleFlows(a.metrics.staleFlows, a.options.Log); err != nil {
		return err
	}
	go a.flows.run(ctx)
	if a.stranded, err = newStrandedClients(a.options.Log, a.serves); err != nil {
		return err
	}
	go a.stranded.run(ctx)
	defer a.checks.close()
	if a.options.Mode == ModeAll {
		if err := conntrack.RaiseLimits(); err != nil {
			a.options.Log.Info("Connection tracking keeps some of its limits", "reason", err.Error())
		}
	}
	go watchAddresses(ctx, a.options.Log, netlink.AddrSubscribe, a.watcher.markNode)
	if err := errors.Join(
		serveLocal(ctx, a.options.Log, dumpSocket, a.believe),
		serveLocal(ctx, a.options.Log, connectionsSocket, a.answerConnections),
	); err != nil {
		return err
	}
	if !a.watcher.start(ctx) {
		return nil
	}
	if a.options.LeaseNamespace != "" {
		go a.reports.run(ctx)
	}
	a.loop(ctx)
	return nil
}

// retry is the pause after a failed sync: 100 ms, doubling up to 30 s.
func retry() wait.Backoff {
	return wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 9, Cap: 30 * time.Second}
}

func (a *Agent) loop(ctx context.Context) {
	backoff := retry()
	for {
		if err := a.sync(); err != nil {
			a.failed(err)
			if !pause(ctx, backoff.Step()) {
				return
			}
			continue
		}
		backoff = retry()
		if !a.await(ctx) {
			return
		}
	}
}

// await returns when there is something to sync, or false when ctx ends.
func (a *Agent) await(ctx context.Context) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-a.watcher.wake:
			return true
		case <-a.guard.alarm:
			a.options.Log.Info("Somebody else changed our nftables; they are put right")
			a.metrics.repairs.Inc()
			a.lookAnew()
			return true
		case clients := <-a.stranded.found:
			if err := a.release(clients); err != nil {
				a.failed(err)
				return true
			}
		}
	}
}

// connect opens the tables anew.
func (a *Agent) connect() error {
	tables, err := nft.Open(a.options.layout())
	if err != nil {
		return err
	}
	if a.tables != nil {
		a.tables.Close()
	}
	a.tables = tables
	a.port.Store(tables.PortID())
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// failed makes the next sync find out what the kernel holds.
func (a *Agent) failed(err error) {
	a.options.Log.Error(err, "Programming nftables failed; everything is looked at anew")
	a.metrics.failed(err)
	a.health.failed(err)
	a.lookAnew()
	a.failures++
	// An error may leave answers in the socket that the next transaction would take for its own. If
	// there is no other socket to be had, the old one is still worth a try.
	if err := a.connect(); err != nil {
		a.options.Log.Error(err, "Connecting to nftables anew failed")
	}
}

// lookAnew makes the next sync build everything and compare it with what the kernel holds.
func (a *Agent) lookAnew() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.former == nil { // the state may be one that was not finished
		a.former = a.state
	}
	a.state = nil
}

// sync takes what changed and commits it.
func (a *Agent) sync() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	started := time.Now()
	taken := a.watcher.take()
	a.listeners.forget()
	full := a.state == nil
	var result ruleset.Result
	names, ranges, err := a.chooseWork(full, taken)
	if err == nil {
		result, err = a.programCounted(full, names, ranges)
	}
	if err != nil {
		// What is gone by now is not among all there is, and must not be forgotten.
		a.watcher.putBack(taken)
		return err
	}
	a.watcher.mark(result.Freed...)
	a.recheckEndpoints(full, &result.Change)
	a.noteConflicts(result.Conflicts)
	a.metrics.synced(full, a.state.Len(), started, taken.triggers)
	a.health.succeeded()
	a.reports.set(taken.seen)
	a.failures = 0
	if full {
		a.flows.settle(a.state.Gone(a.former))
		a.state.Inherit(nil)
		a.former = nil
		a.stranded.look() // endpoints may have left while nobody looked
		// Listing and building everything leaves more garbage than there is to keep, and on a quiet
		// cluster nothing would give it back for long.
		go debug.FreeOSMemory()
	}
	return nil
}

// chooseWork returns the Services to build, and the ranges if they are to be written: what changed, and
// everything if the agent looks anew or the node has changed in what matters.
func (a *Agent) chooseWork(full bool, taken changes) ([]types.NamespacedName, *ruleset.Ranges, error) {
	names := slices.Collect(maps.Keys(taken.services))
	if !full && !taken.node {
		return names, nil, nil
	}
	changed, err := a.lookAtNode()
	if err != nil || !full && !changed {
		return names, nil, err
	}
	return a.watcher.addAll(names), &a.ranges, nil
}

// lookAtNode reads the node anew and says whether something changed that every Service depends on.
func (a *Agent) lookAtNode() (bool, error) {
	object, err := a.watcher.nodeObject(a.options.NodeName)
	if err != nil {
		return false, fmt.Errorf("reading the node: %w", err)
	}
	a.health.setNode(object)
	// A node that is registered anew, or whose kubelet has lost its cloud, still has its addresses: giving up its
	// NodePorts meanwhile would only refuse connections.
	if a.object == nil || object != nil && len(object.Status.Addresses) > 0 {
		a.object = object
	}
	object = a.object
	local, err := localAddresses()
	if err != nil {
		return false, err
	}
	node := proxy.NodeOf(a.options.NodeName, object)
	node.NodePortAddresses = a.nodePorts.compute(node.NodePortAddresses, local)
	node.ExternalIPs = a.options.Mode == ModeAll
	node.ServiceCIDRs = a.watcher.serviceRanges()
	ranges := computeRanges(&a.options, object, node.ServiceCIDRs)
	changed := !reflect.DeepEqual(node, a.node) || !reflect.DeepEqual(ranges, a.ranges)
	a.node, a.ranges = node, ranges
	return changed, nil
}

// noteConflicts counts the Services whose frontends others have, and logs these when they are new.
func (a *Agent) noteConflicts(conflicts map[proxy.Key]types.NamespacedName) {
	waiting := a.state.Waiting()
	a.metrics.conflicts.Set(float64(waiting))
	if waiting == 0 {
		clear(a.disputed)
	}
	for key, holder := range conflicts {
		if a.disputed[key] != holder {
			a.disputed[key] = holder
			a.options.Log.Info("A Service claims an address and port that is another's; the one that is named has it", "frontend", key.String(), "service", holder)
		}
	}
}

// Cleanup deletes the agent's tables and nothing else.
func Cleanup() error {
	tables, err := nft.Open(nft.Layout{})
	if err != nil {
		return fmt.Errorf("connecting to nftables (this needs CAP_NET_ADMIN): %w", err)
	}
	defer tables.Close()
	return tables.Cleanup()
}
