package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// byService is the index of EndpointSlices by the Service they belong to.
const byService = "service"

// watcher holds what the API server says, and what of it changed since the last take.
type watcher struct {
	mode         Mode
	services     cache.SharedIndexInformer
	slices       cache.SharedIndexInformer
	node         cache.SharedIndexInformer
	serviceCIDRs cache.SharedIndexInformer // nil where the API server has none
	informers    []cache.SharedIndexInformer
	client       kubernetes.Interface
	log          logr.Logger
	// started is when the watcher was made: what was triggered before it says nothing about the agent.
	started time.Time

	mu      sync.Mutex
	changed changes
	// wake has room for one signal: that there is something to take.
	wake chan struct{}
}

// changes is what to look at again.
type changes struct {
	services map[types.NamespacedName]struct{}
	// triggers are when the changes of endpoints were caused, as the slices say.
	triggers []time.Time
	// seen are the newest resource versions that this and all changes before it brought.
	seen revisions
	// node says that the node's addresses, its zone or the Service ranges may have changed.
	node bool
}

func newWatcher(o *Options) (*watcher, error) {
	w := &watcher{
		mode:    o.Mode,
		client:  o.Client,
		log:     o.Log,
		changed: changes{services: map[types.NamespacedName]struct{}{}},
		wake:    make(chan struct{}, 1),
	}
	// A selector cannot say "this label or that one", nor "this value or none": see ours.
	generated, withPods := "", "!"+corev1.IsHeadlessService
	if o.Mode == ModeGroups {
		generated = v1alpha1.LabelServiceGroup
		withPods += "," + labels.Set{v1alpha1.LabelServiceProxyName: v1alpha1.ServiceProxyName}.String()
	}
	core, discovery := o.Client.CoreV1().RESTClient(), o.Client.DiscoveryV1().RESTClient()
	w.services = newInformer[corev1.Service](core, "services", selectLabels(generated))
	w.slices = newInformer[discoveryv1.EndpointSlice](discovery, "endpointslices", selectLabels(withPods))
	w.node = newInformer[corev1.Node](core, "nodes", selectName(o.NodeName))
	handlers := map[cache.SharedIndexInformer]func(obj any){
		w.services: w.markService, w.slices: w.markSlice, w.node: func(any) { w.markNode() },
	}
	w.started = time.Now()
	if _, err := w.slices.AddEventHandler(w.triggerHandler()); err != nil {
		return nil, fmt.Errorf("watching: %w", err)
	}
	if err := w.slices.AddIndexers(cache.Indexers{byService: indexByService}); err != nil {
		return nil, fmt.Errorf("indexing EndpointSlices: %w", err)
	}
	for informer, mark := range handlers {
		if err := w.add(informer, mark); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// add has an informer started with the others; mark is called with the objects of its events.
func (w *watcher) add(informer cache.SharedIndexInformer, mark func(obj any)) error {
	if err := informer.SetTransform(slim); err != nil {
		return fmt.Errorf("watching: %w", err)
	}
	if _, err := informer.AddEventHandler(onEvery(mark)); err != nil {
		return fmt.Errorf("watching: %w", err)
	}
	w.informers = append(w.informers, informer)
	return nil
}

func selectLabels(selector string) func(*metav1.ListOptions) {
	return func(o *metav1.ListOptions) { o.LabelSelector = selector }
}

func selectName(name string) func(*metav1.ListOptions) {
	return func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
	}
}

// start watches until ctx ends, and returns when everything there is has been seen, or false when ctx
// ended before.
func (w *watcher) start(ctx context.Context) bool {
	if !w.watchServiceCIDRs(ctx) {
		return false
	}
	var synced []cache.DoneChecker
	for _, informer := range w.informers {
		go informer.RunWithContext(ctx)
		synced = append(synced, informer.HasSyncedChecker())
	}
	return cache.WaitFor(ctx, "", synced...)
}

// ours says whether a Service or EndpointSlice with these labels is for this agent. A Service that the
// operator is about to adopt is, while the proxy that it has serves it too: the label that makes the
// other let go comes when every agent can be expected to serve it (docs/adoption.md).
func (w *watcher) ours(labels map[string]string) bool {
	name, named := labels[v1alpha1.LabelServiceProxyName]
	_, adopting := labels[v1alpha1.LabelAdopting]
	return name == v1alpha1.ServiceProxyName || !named && (adopting || w.mode == ModeAll)
}

// onEvery calls mark with the object of each event: for an update with both the old and the new one,
// since an EndpointSlice may move between Services; for a deletion with the last state known.
func onEvery(mark func(obj any)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: mark,
		UpdateFunc: func(old, obj any) {
			mark(old)
			mark(obj)
		},
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			mark(obj)
		},
	}
}

// triggerHandler collects when the changes were caused that slices bring.
func (w *watcher) triggerHandler() cache.ResourceEventHandler {
	note := func(old, obj any) {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok || !w.ours(slice.Labels) {
			return
		}
		text := slice.Annotations[corev1.EndpointsLastChangeTriggerTime]
		if before, ok := old.(*discoveryv1.EndpointSlice); ok && before.Annotations[corev1.EndpointsLastChangeTriggerTime] == text {
			return
		}
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || at.Before(w.started) {
			return
		}
		w.mu.Lock()
		w.changed.triggers = append(w.changed.triggers, at)
		w.mu.Unlock()
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { note(nil, obj) },
		UpdateFunc: note,
	}
}

func serviceOf(slice *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
}

func indexByService(obj any) ([]string, error) {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, fmt.Errorf("indexing a %T by its Service", obj)
	}
	return []string{serviceOf(slice).String()}, nil
}

func (w *watcher) markService(obj any) {
	service, ok := obj.(*corev1.Service)
	if !ok {
		return
	}
	w.note(func(c *changes) {
		c.seen.services = newest(c.seen.services, service.ResourceVersion)
		if service.Name != "" && w.ours(service.Labels) { // see announceLists
			c.services[nameOf(service)] = struct{}{}
		}
	})
}

func (w *watcher) markSlice(obj any) {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return
	}
	w.note(func(c *changes) {
		c.seen.slices = newest(c.seen.slices, slice.ResourceVersion)
		if slice.Name != "" && w.ours(slice.Labels) {
			c.services[serviceOf(slice)] = struct{}{}
		}
	})
}

func (w *watcher) mark(names ...types.NamespacedName) {
	if len(names) == 0 {
		return
	}
	w.note(func(c *changes) {
		for _, name := range names {
			c.services[name] = struct{}{}
		}
	})
}

func (w *watcher) markNode() { w.note(func(c *changes) { c.node = true }) }

// note adds to what changed, as a whole: what is reported as seen must be taken along with it.
func (w *watcher) note(add func(c *changes)) {
	w.mu.Lock()
	add(&w.changed)
	w.mu.Unlock()
	w.signal()
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // somebody has signalled already
	}
}

// take returns what changed since the last take.
func (w *watcher) take() changes {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.changed
	w.changed = changes{services: map[types.NamespacedName]struct{}{}, seen: taken.seen}
	return taken
}

// putBack makes what was taken be looked at again.
func (w *watcher) putBack(taken changes) {
	w.note(func(c *changes) {
		maps.Copy(c.services, taken.services)
		c.node = c.node || taken.node
	})
}

// service returns a Service with its slices, nil if it is gone.
func (w *watcher) service(name types.NamespacedName) (*corev1.Service, []*discoveryv1.EndpointSlice, error) {
	obj, exists, err := w.services.GetIndexer().GetByKey(name.String())
	if err != nil || !exists || !w.ours(obj.(*corev1.Service).Labels) {
		return nil, nil, err
	}
	list, err := w.slices.GetIndexer().ByIndex(byService, name.String())
	if err != nil {
		return nil, nil, err
	}
	out := make([]*discoveryv1.EndpointSlice, 0, len(list))
	for _, item := range list {
		if slice := item.(*discoveryv1.EndpointSlice); w.ours(slice.Labels) {
			out = append(out, slice)
		}
	}
	return obj.(*corev1.Service), out, nil
}

// addAll returns the names of all Services that there are, the oldest first, after those that are given and
// gone.
func (w *watcher) addAll(names []types.NamespacedName) []types.NamespacedName {
	names = slices.DeleteFunc(names, func(name types.NamespacedName) bool {
		_, exists, err := w.services.GetIndexer().GetByKey(name.String())
		return err == nil && exists
	})
	list := w.services.GetIndexer().List()
	slices.SortFunc(list, func(x, y any) int {
		a, b := x.(*corev1.Service), y.(*corev1.Service)
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), ruleset.CompareNames(nameOf(a), nameOf(b)))
	})
	names = slices.Grow(names, len(list))
	for _, obj := range list {
		names = append(names, nameOf(obj.(*corev1.Service)))
	}
	return names
}

func nameOf(service *corev1.Service) types.NamespacedName {
	return types.NamespacedName{Namespace: service.Namespace, Name: service.Name}
}

// nodeObject returns the Node, nil as long as there is none.
func (w *watcher) nodeObject(name string) (*corev1.Node, error) {
	obj, exists, err := w.node.GetIndexer().GetByKey(name)
	if err != nil || !exists {
		return nil, err
	}
	return obj.(*corev1.Node), nil
}
