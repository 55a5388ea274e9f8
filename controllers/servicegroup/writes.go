package servicegroup

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// writes knows what our last writes returned, until the caches show it: planning from what was before
// would write the same again. Services are known by their serviceKey.
type writes struct {
	groups   *perGroup[v1alpha1.ServiceGroup]
	services *perGroup[serviceWrites]
}

type serviceWrites struct {
	last *corev1.Service
	// hidden reports whether there may be a Service that the cache does not show.
	hidden bool
	// writing reports whether the Service or its slices are being written.
	writing bool
}

func newWrites() *writes {
	return &writes{groups: newPerGroup[v1alpha1.ServiceGroup](), services: newPerGroup[serviceWrites]()}
}

// latestGroup is the newer of what the cache shows and what our last write returned.
func (w *writes) latestGroup(key types.NamespacedName, cached *v1alpha1.ServiceGroup) *v1alpha1.ServiceGroup {
	stale := false
	w.groups.ifKnown(key, func(written *v1alpha1.ServiceGroup) {
		if stale = !newer(written, cached); !stale {
			cached = written.DeepCopy()
		}
	})
	if stale {
		w.groups.forget(key)
	}
	return cached
}

func (w *writes) wroteGroup(key types.NamespacedName, written *v1alpha1.ServiceGroup) {
	w.groups.with(key, func(entry *v1alpha1.ServiceGroup) { written.DeepCopyInto(entry) })
}

// latestService is the newer of what the cache shows and what our last write returned.
func (w *writes) latestService(key types.NamespacedName, cached *corev1.Service) *corev1.Service {
	w.services.with(key, func(entry *serviceWrites) {
		if entry.last != nil && newer(entry.last, cached) {
			cached = entry.last.DeepCopy()
			return
		}
		entry.last = nil
	})
	return cached
}

func (w *writes) wroteService(key types.NamespacedName, written *corev1.Service) {
	w.services.with(key, func(entry *serviceWrites) { entry.last = written.DeepCopy() })
}

// begin records that a Service or its slices are being written, until the function it returns is
// called.
func (w *writes) begin(key types.NamespacedName) (done func()) {
	w.services.with(key, func(entry *serviceWrites) { entry.writing = true })
	return func() { w.services.with(key, func(entry *serviceWrites) { entry.writing = false }) }
}

func (w *writes) isWriting(key types.NamespacedName) (writing bool) {
	w.services.ifKnown(key, func(entry *serviceWrites) { writing = entry.writing })
	return writing
}

// isEcho reports whether a Service in an event is what our last write returned: there is nothing in it
// that the reconciliation which wrote it does not know.
func (w *writes) isEcho(key types.NamespacedName, svc *corev1.Service) (echo bool) {
	w.services.ifKnown(key, func(entry *serviceWrites) {
		echo = entry.last != nil && entry.last.UID == svc.UID && entry.last.ResourceVersion == svc.ResourceVersion
	})
	return echo
}

// mayBeHidden reports whether there may be a Service that the cache does not show.
func (w *writes) mayBeHidden(key types.NamespacedName) (hidden bool) {
	w.services.ifKnown(key, func(entry *serviceWrites) { hidden = entry.hidden || entry.last != nil })
	return hidden
}

// found records whether the API server has a Service that the cache does not show.
func (w *writes) found(key types.NamespacedName, found bool) {
	w.services.with(key, func(entry *serviceWrites) {
		if entry.hidden = found; !found {
			entry.last = nil
		}
	})
}

// lostRace has the Service looked for at the API server the next time.
func (w *writes) lostRace(key types.NamespacedName) {
	w.services.with(key, func(entry *serviceWrites) { entry.hidden = true })
}

// newer reports whether a is a later state of the same object as b.
func newer(a, b client.Object) bool {
	if a.GetUID() != b.GetUID() {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && order > 0
}
