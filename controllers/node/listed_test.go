package node

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clientfeatures "k8s.io/client-go/features"
	clientfeaturestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/tools/cache"
)

// TestListsAreAnnounced: whoever handles the events of an informer learns how new a list was, although what was
// deleted last is not in it, and after everything that the list brought. The next watch does not
// repeat it.
func TestListsAreAnnounced(t *testing.T) {
	clientfeaturestesting.SetFeatureDuringTest(t, clientfeatures.WatchListClient, false)
	watches := make(chan *watch.FakeWatcher)
	source := &cache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
			kept := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "kept", ResourceVersion: "5"}}
			return &corev1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: "9"}, Items: []corev1.Service{kept}}, nil
		},
		WatchFuncWithContext: func(ctx context.Context, _ metav1.ListOptions) (watch.Interface, error) {
			fake := watch.NewFake()
			select {
			case watches <- fake:
				return fake, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}
	announceLists[corev1.Service](source)
	informer := cache.NewSharedIndexInformer(source, &corev1.Service{}, 0, cache.Indexers{})
	seen := make(chan string, 10)
	note := func(obj any) {
		service := obj.(*corev1.Service)
		seen <- service.Name + "@" + service.ResourceVersion
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: note, DeleteFunc: note}); err != nil {
		t.Fatal(err)
	}
	go informer.RunWithContext(t.Context())
	expect := func(want ...string) {
		t.Helper()
		for _, each := range want {
			if got := <-seen; got != each {
				t.Fatalf("%s comes where %s is to", got, each)
			}
		}
	}
	first := <-watches
	expect("kept@5", "@9")
	first.Delete(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "kept", ResourceVersion: "12"}})
	expect("kept@12")
	if keys := informer.GetStore().ListKeys(); len(keys) > 0 {
		t.Errorf("the store holds %v", keys)
	}
	first.Stop()
	second := <-watches
	second.Add(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "new", ResourceVersion: "13"}})
	expect("new@13")
}
