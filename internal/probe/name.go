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
	// Addresses are the allowed ones of those it had when it was found last, in order.
	Addresses []netip.Addr
	// NotAllowed counts the others. A name that has only such ones is not found: whoever may write a
	// name learns nothing of those that lead elsewhere, not even whether they exist.
	NotAllowed int
	// Failure is why it was not found when it was looked up last, in words that stay the same while
	// the cause does; empty if it was found, or not looked up yet.
	Failure string
}

// name is a name that is watched.
type name struct {
	job
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
	for host, n := range w.names {
		if _, ok := wanted[host]; !ok {
			p.lookups.end(&n.job)
			delete(w.names, host)
		}
	}
	for host := range wanted {
		n := w.names[host]
		if n == nil {
			n = &name{}
			n.job = job{owner: owner, tolerance: p.options.LookupInterval / 10, do: func(ctx context.Context) time.Time {
				return time.Now().Add(spread(p.lookUp(ctx, owner, host, n)))
			}}
			w.names[host] = n
			p.lookups.add(&n.job, time.Now())
		}
		wanted[host] = n.lookup
	}
	p.dropEmpty(owner)
	return wanted
}

// lookUp looks a name up and returns after which wait to do so again.
func (p *Prober) lookUp(ctx context.Context, owner types.NamespacedName, host string, n *name) (wait time.Duration) {
	now, err := p.ask(ctx, host)
	if ctx.Err() != nil {
		return 0
	}
	wait = p.options.LookupInterval
	p.mu.Lock()
	if err != nil {
		wait /= 6
		now = n.lookup
		now.Failure = failureOf(err)
	}
	changed := !n.lookup.equal(now)
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

// errNotAllowed is the answer of a name that has no allowed address.
var errNotAllowed = errors.New("none of its addresses is allowed")

// ask asks for the addresses of a name. It is taken as it is, not with the suffixes of the manager's own
// resolv.conf.
func (p *Prober) ask(ctx context.Context, host string) (Lookup, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := p.options.Resolver.LookupNetIP(ctx, "ip", strings.TrimSuffix(host, ".")+".")
	if err != nil {
		return Lookup{}, err
	}
	all := canonical(found)
	allowed := slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return !p.options.Allowed(a) })
	if len(allowed) == 0 {
		return Lookup{}, errNotAllowed
	}
	return Lookup{Found: true, Addresses: allowed, NotAllowed: len(all) - len(allowed)}, nil
}

func (l Lookup) equal(other Lookup) bool {
	return l.Found == other.Found && l.Failure == other.Failure && l.NotAllowed == other.NotAllowed && slices.Equal(l.Addresses, other.Addresses)
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

// failureOf leaves out what differs from try to try, such as ports; and it does not tell a name that is
// not there from one that leads to what is not allowed.
func failureOf(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, errNotAllowed), errors.As(err, &dns) && dns.IsNotFound:
		return "there is no such name, or no address of it is allowed"
	case errors.Is(err, context.DeadlineExceeded), dns != nil && dns.IsTimeout:
		return "the DNS servers do not answer"
	}
	return "the DNS servers fail"
}
