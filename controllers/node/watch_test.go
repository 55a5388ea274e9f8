package node

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// What caused a change before the agent ran says nothing about how long the agent takes.
func TestTriggersBeforeTheStartDoNotCount(t *testing.T) {
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	sliceAt := func(trigger string) *discoveryv1.EndpointSlice {
		slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}}
		if trigger != "" {
			slice.Annotations[corev1.EndpointsLastChangeTriggerTime] = trigger
		}
		return slice
	}
	const before, after, later = "2026-01-02T03:04:04Z", "2026-01-02T03:04:06.5Z", "2026-01-02T03:04:07Z"
	for _, test := range []struct {
		name     string
		old, new string
		counts   bool
	}{
		{"before the start", "", before, false},
		{"after the start", "", after, true},
		{"the same as before", after, after, false},
		{"another", after, later, true},
		{"none", after, "", false},
		{"no time", "", "yesterday", false},
	} {
		w := &watcher{mode: ModeAll, started: started}
		handler := w.triggerHandler()
		handler.OnUpdate(sliceAt(test.old), sliceAt(test.new))
		if got := len(w.changed.triggers) == 1; got != test.counts {
			t.Errorf("%s: counts %v, want %v", test.name, got, test.counts)
		}
	}
}

// What a failed sync took is taken again with what came meanwhile: it may be gone from the cache by then.
func TestWhatWasPutBackIsTakenAgain(t *testing.T) {
	w := &watcher{mode: ModeAll, changed: changes{services: map[types.NamespacedName]struct{}{}}, wake: make(chan struct{}, 1)}
	gone, came := types.NamespacedName{Namespace: "default", Name: "gone"}, types.NamespacedName{Namespace: "default", Name: "came"}
	w.mark(gone)
	w.markNode()
	taken := w.take()
	w.mark(came)
	w.putBack(taken)
	again := w.take()
	if _, has := again.services[gone]; !has || len(again.services) != 2 || !again.node {
		t.Errorf("taken again: %v, node %v; want %v and %v, and the node", again.services, again.node, gone, came)
	}
	if next := w.take(); len(next.services) > 0 || next.node {
		t.Errorf("and again: %v", next)
	}
}
