package probe

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
)

// maxInFlight bounds the checks and lookups under way, of which each has a socket.
const maxInFlight = 1000

// Resolver looks names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options tune a Prober.
type Options struct {
	// Resolver is for tests. Default: the system's.
	Resolver Resolver
	// Dial is for tests. Default: a plain connection.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// LookupInterval is how often a name is looked up; after a failure six times as often. Default
	// 30 s.
	LookupInterval time.Duration
}

// Prober watches names and targets. Its methods may be called concurrently, after Start.
type Prober struct {
	options Options
	slots   chan struct{}
	changed func(types.NamespacedName)
	ctx     context.Context
	log     logr.Logger

	mu     sync.Mutex
	owners map[types.NamespacedName]*watched
}

// watched is what runs for an owner.
type watched struct {
	names   map[string]*name
	targets map[Target]*target
}

// New returns a Prober that watches nothing yet.
func New(options Options) *Prober {
	if options.Resolver == nil {
		options.Resolver = net.DefaultResolver
	}
	if options.Dial == nil {
		options.Dial = new(net.Dialer).DialContext
	}
	if options.LookupInterval == 0 {
		options.LookupInterval = 30 * time.Second
	}
	return &Prober{options: options, slots: make(chan struct{}, maxInFlight), owners: map[types.NamespacedName]*watched{}}
}

// Start makes the Prober watch until ctx ends, and call changed for the owner whenever something became
// known or different. It is called once.
func (p *Prober) Start(ctx context.Context, changed func(types.NamespacedName)) {
	p.ctx, p.changed, p.log = ctx, changed, logr.FromContextOrDiscard(ctx).WithName("probe")
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

// running is something that runs until its end.
type running struct{ cancel context.CancelFunc }

func (r *running) begin(ctx context.Context) context.Context {
	ctx, r.cancel = context.WithCancel(ctx)
	return ctx
}

func (r *running) end() { r.cancel() }

// retain ends what is no longer wanted.
func retain[K comparable, R interface{ end() }, W any](run map[K]R, wanted map[K]W) {
	for key, r := range run {
		if _, ok := wanted[key]; !ok {
			r.end()
			delete(run, key)
		}
	}
}

// repeat calls do after the first wait and then again and again, each time after the wait that do
// returned and up to a tenth more, so that what began together spreads.
func (p *Prober) repeat(ctx context.Context, wait time.Duration, do func(context.Context) time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wait := do(ctx)
		<-p.slots
		timer.Reset(wait + rand.N(wait/10+1))
	}
}
