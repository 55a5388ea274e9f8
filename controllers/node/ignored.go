package node

import (
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
)

// strayPause is how long slices may be there without their Service before that counts: the two come and
// go one after the other.
const strayPause = 5 * time.Second

// maxTold bounds how many addresses a line of the log names.
const maxTold = 10

// ignored counts the endpoint addresses that are left out, and logs each once.
type ignored struct {
	log   logr.Logger
	gauge *prometheus.GaugeVec
	// mark makes the Services of these names be built again.
	mark func(names ...types.NamespacedName)

	// of are the addresses that are left out, by Service.
	of map[types.NamespacedName][]proxy.Ignored
	// since is when slices were first seen without their Service.
	since map[types.NamespacedName]time.Time
}

func newIgnored(log logr.Logger, gauge *prometheus.GaugeVec, mark func(names ...types.NamespacedName)) *ignored {
	return &ignored{
		log: log, gauge: gauge, mark: mark,
		of: map[types.NamespacedName][]proxy.Ignored{}, since: map[types.NamespacedName]time.Time{},
	}
}

// note takes note of what is left out of a Service, in the order of [proxy.Ignored.Compare].
func (i *ignored) note(name types.NamespacedName, next []proxy.Ignored) {
	delete(i.since, name)
	i.set(name, next)
}

// noteStrays takes note of what the slices list that are labelled for this agent and have no Service that
// is, once they have been there for a while.
func (i *ignored) noteStrays(name types.NamespacedName, next []proxy.Ignored) {
	if len(next) == 0 {
		i.note(name, nil)
		return
	}
	since, known := i.since[name]
	switch {
	case !known:
		i.since[name] = time.Now()
		time.AfterFunc(strayPause, func() { i.mark(name) })
		i.set(name, nil)
	case time.Since(since) >= strayPause:
		i.set(name, next)
	}
}

func (i *ignored) set(name types.NamespacedName, next []proxy.Ignored) {
	before := i.of[name]
	if len(before) == 0 && len(next) == 0 {
		return
	}
	if i.of[name] = next; len(next) == 0 {
		delete(i.of, name)
	}
	for _, one := range before {
		i.gauge.WithLabelValues(string(one.Reason)).Dec()
	}
	// Which ones are over the limit may change all the time.
	overLimit := slices.ContainsFunc(before, isOverLimit)
	var told []string
	untold := 0
	for _, one := range next {
		i.gauge.WithLabelValues(string(one.Reason)).Inc()
		if _, known := slices.BinarySearchFunc(before, one, proxy.Ignored.Compare); known || overLimit && isOverLimit(one) {
			continue
		}
		if len(told) < maxTold {
			told = append(told, one.String())
		} else {
			untold++
		}
	}
	if len(told) > 0 {
		i.log.Info("Endpoint addresses left out; the others are served", "service", name, "addresses", told, "more", untold)
	}
}

func isOverLimit(i proxy.Ignored) bool { return i.Reason == proxy.OverLimit }

// withReason returns the Services of which something is left out for a reason.
func (i *ignored) withReason(reason proxy.Reason) []types.NamespacedName {
	var out []types.NamespacedName
	for name, list := range i.of {
		if slices.ContainsFunc(list, func(one proxy.Ignored) bool { return one.Reason == reason }) {
			out = append(out, name)
		}
	}
	return out
}

// strays are the addresses in slices of a Service that are labelled for this agent, sorted.
func (w *watcher) strays(name types.NamespacedName) []proxy.Ignored {
	list, err := w.slices.GetIndexer().ByIndex(byService, name.String())
	if err != nil {
		return nil // there is the index
	}
	var out []proxy.Ignored
	for _, item := range list {
		slice := item.(*discoveryv1.EndpointSlice)
		if slice.Labels[v1alpha1.LabelServiceProxyName] != v1alpha1.ServiceProxyName {
			continue
		}
		for i := range slice.Endpoints {
			if addresses := slice.Endpoints[i].Addresses; len(addresses) > 0 {
				out = append(out, proxy.Ignored{Address: addresses[0], Reason: proxy.NotOurService})
			}
		}
	}
	slices.SortFunc(out, proxy.Ignored.Compare)
	return slices.Compact(out)
}
