package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
)

// Resolver looks names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options tune a Prober.
type Options struct {
	// CheckWorkers and LookupWorkers are how many checks and how many lookups run at once. Each has
	// a socket. Default 1000 and 100.
	CheckWorkers, LookupWorkers int
	// Allowed reports whether an address may be known of a name. Default: all may.
	Allowed func(netip.Addr) bool
	// Resolver is for tests. Default: the system's.
	Resolver Resolver
	// Dial is for tests. Default: a plain connection.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// LookupInterval is how often a name is looked up; after a failure six times as often. Default
	// 30 s.
	LookupInterval time.Duration
}

func (o Options) withDefaults() Options {
	if o.CheckWorkers == 0 {
		o.CheckWorkers = 1000
	}
	if o.LookupWorkers == 0 {
		o.LookupWorkers = 100
	}
	if o.Allowed == nil {
		o.Allowed = func(netip.Addr) bool { return true }
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.LookupInterval == 0 {
		o.LookupInterval = 30 * time.Second
	}
	return o
}

// Validate returns what is wrong with the options.
func (o Options) Validate() error {
	if o.CheckWorkers < 0 || o.LookupWorkers < 0 {
		return fmt.Errorf("workers of health checks %d and of lookups %d: must be at least 1", o.CheckWorkers, o.LookupWorkers)
	}
	return nil
}

// Prober watches names and targets. Its methods may be called concurrently, after Start.
type Prober struct {
	options Options
	// checks and lookups are apart, so that DNS servers that do not answer stop no check.
	checks, lookups *pool
	changed         func(types.NamespacedName)
	log             logr.Logger

	mu     sync.Mutex
	owners map[types.NamespacedName]*watched
}

// watched is what is watched for an owner.
type watched struct {
	names   map[string]*name
	targets map[Target]*target
}

// New returns a Prober that watches nothing yet.
func New(options Options) *Prober {
	options = options.withDefaults()
	return &Prober{
		options: options,
		checks:  newPool(options.CheckWorkers, late.WithLabelValues("check")),
		lookups: newPool(options.LookupWorkers, late.WithLabelValues("lookup")),
		owners:  map[types.NamespacedName]*watched{},
	}
}

// Start makes the Prober watch until ctx ends, and call changed for the owner whenever something became
// known or different. It is called once.
func (p *Prober) Start(ctx context.Context, changed func(types.NamespacedName)) {
	p.changed, p.log = changed, logr.FromContextOrDiscard(ctx).WithName("probe")
	go p.checks.loop(ctx)
	go p.lookups.loop(ctx)
}

// Forget ends everything that is watched for an owner.
func (p *Prober) Forget(owner types.NamespacedName) {
	p.Names(owner, nil)
	p.Targets(owner, nil)
}

// of returns the owner's watches. The caller holds the lock, and calls dropEmpty before it lets go.
func (p *Prober) of(owner types.NamespacedName) *watched {
	w := p.owners[owner]
	if w == nil {
		w = &watched{names: map[string]*name{}, targets: map[Target]*target{}}
		p.owners[owner] = w
	}
	return w
}

func (p *Prober) dropEmpty(owner types.NamespacedName) {
	if w := p.owners[owner]; len(w.names)+len(w.targets) == 0 {
		delete(p.owners, owner)
	}
}
