package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// lookupTimeout bounds one lookup.
const lookupTimeout = 10 * time.Second

// Lookup is what is known of a name.
type Lookup struct {
	// Found says that the name was found at least once.
	Found bool
	// Addresses are those it had when it was found last, in order.
	Addresses []netip.Addr
	// Failure is why it was not found when it was looked up last, in words that stay the same while
	// the cause does; empty if it was found, or not looked up yet.
	Failure string
}

// name is a name that is watched.
type name struct {
	running
	lookup Lookup
}

// Names makes these the names that are watched for the owner, in place of those before, and returns what
// is known of them.
func (p *Prober) Names(owner types.NamespacedName, names []string) map[string]Lookup {
	wanted := make(map[string]Lookup, len(names))
	for _, host := range names {
		wanted[host] = Lookup{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.of(owner)
	retain(w.names, wanted)
	for host := range wanted {
		n := w.names[host]
		if n == nil {
			n = &name{}
			w.names[host] = n
			go p.repeat(n.begin(p.ctx), 0, func(ctx context.Context) time.Duration { return p.lookUp(ctx, owner, host, n) })
		}
		wanted[host] = n.lookup
	}
	p.dropEmpty(owner)
	return wanted
}

// lookUp looks a name up and returns when to do so again. The name is taken as it is, not with the
// suffixes of the manager's own resolv.conf.
func (p *Prober) lookUp(ctx context.Context, owner types.NamespacedName, host string, n *name) time.Duration {
	bounded, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := p.options.Resolver.LookupNetIP(bounded, "ip", strings.TrimSuffix(host, ".")+".")
	if ctx.Err() != nil {
		return 0
	}
	now := Lookup{Found: true, Addresses: canonical(found)}
	wait := p.options.LookupInterval
	if err != nil {
		wait /= 6
	}
	p.mu.Lock()
	if err != nil {
		now = Lookup{Found: n.lookup.Found, Addresses: n.lookup.Addresses, Failure: failureOf(err)}
	}
	changed := n.lookup.Found != now.Found || n.lookup.Failure != now.Failure || !slices.Equal(n.lookup.Addresses, now.Addresses)
	n.lookup = now
	p.mu.Unlock()
	countLookup(err)
	if changed {
		if err != nil {
			p.log.Info("A name cannot be looked up", "for", owner, "name", host, "cause", err.Error())
		}
		p.changed(owner)
	}
	return wait
}

// canonical writes every address in one way only, and puts them in order.
func canonical(addresses []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(addresses))
	for _, a := range addresses {
		out = append(out, a.Unmap().WithZone(""))
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// failureOf leaves out what differs from try to try, such as ports.
func failureOf(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "there is no such name"
	case errors.Is(err, context.DeadlineExceeded), dns != nil && dns.IsTimeout:
		return "the DNS servers do not answer"
	}
	return "the DNS servers fail"
}
