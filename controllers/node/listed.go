package node

import (
	"context"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// announceLists makes the first watch after a list begin with an event of the list's own revision: the
// deletion of an object without a name. The objects of a list do not tell how new it is if what was
// deleted last is not among them, and handlers see events in order: whoever sees this one has seen what the
// list brought.
func announceLists[T any, P message[T]](source *cache.ListWatch) {
	var mu sync.Mutex
	var listed string
	list, start := source.ListWithContextFunc, source.WatchFuncWithContext
	source.ListWithContextFunc = func(ctx context.Context, options metav1.ListOptions) (out runtime.Object, err error) {
		if out, err = list(ctx, options); err != nil {
			return nil, err
		}
		if of, ok := out.(metav1.ListInterface); ok {
			mu.Lock()
			listed = of.GetResourceVersion()
			mu.Unlock()
		}
		return out, nil
	}
	source.WatchFuncWithContext = func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		watching, err := start(ctx, options)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		if listed == "" || options.ResourceVersion != listed {
			return watching, nil
		}
		listed = ""
		mark := P(new(T))
		any(mark).(metav1.Object).SetResourceVersion(options.ResourceVersion)
		return precede(watching, watch.Event{Type: watch.Deleted, Object: mark}), nil
	}
}

// precede returns a watch with an event before all others.
func precede(watching watch.Interface, first watch.Event) watch.Interface {
	events := make(chan watch.Event)
	out := watch.NewProxyWatcher(events)
	go func() {
		defer close(events)
		defer watching.Stop()
		for next, ok := first, true; ok; {
			select {
			case events <- next:
			case <-out.StopChan():
				return
			}
			select {
			case next, ok = <-watching.ResultChan():
			case <-out.StopChan():
				return
			}
		}
	}()
	return out
}
