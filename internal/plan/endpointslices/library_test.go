package endpointslices_test

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	clientset "k8s.io/client-go/kubernetes"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/endpointslice"
	endpointsliceutil "k8s.io/endpointslice/util"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan/endpointslices"
)

// byLibrary plans with k8s.io/endpointslice, the library of kube-controller-manager, writing into a record
// instead of to the API server. It returns an error for pods on nodes that do not exist, and plans without them.
func byLibrary(g *endpointslices.Group) endpointslices.Changes {
	record := &sliceRecord{}
	trigger, _ := time.Parse(time.RFC3339Nano, g.Trigger)
	lib := endpointslice.NewReconciler(recordingClient{record: record}, nodeLister{nodes: g.Nodes},
		endpointslices.MaxEndpoints, endpointsliceutil.NewEndpointSliceTracker(), nil, nil, v1alpha1.ManagedBy,
		endpointslice.WithPreferSameTrafficDistributionEnabled(true))
	var existing []*discoveryv1.EndpointSlice
	for _, slice := range g.Existing {
		if slice.DeletionTimestamp == nil { // the controller leaves out the others before it asks the library
			existing = append(existing, slice.DeepCopy())
		}
	}
	_ = lib.Reconcile(logr.Discard(), g.Service.DeepCopy(), g.Pods, existing, trigger)
	return record.changes(existing)
}

// sliceRecord is what the library wanted to write.
type sliceRecord struct {
	create, update []*discoveryv1.EndpointSlice
	deleted        map[string]bool
}

func (r *sliceRecord) changes(existing []*discoveryv1.EndpointSlice) endpointslices.Changes {
	out := endpointslices.Changes{Create: r.create, Update: r.update}
	updated := map[string]bool{}
	for _, slice := range out.Update {
		updated[slice.Name] = true
	}
	for _, slice := range existing {
		switch {
		case r.deleted[slice.Name]:
			out.Delete = append(out.Delete, slice)
		case !updated[slice.Name]:
			out.Final = append(out.Final, slice)
		}
	}
	out.Final = append(append(out.Final, out.Update...), out.Create...)
	return out
}

// recordingClient is the part of a client that the library uses: writing EndpointSlices. Calling
// anything else is a nil pointer, and shows in the first test.
type recordingClient struct {
	clientset.Interface
	record *sliceRecord
}

func (c recordingClient) DiscoveryV1() discoveryclient.DiscoveryV1Interface {
	return recordingDiscovery{record: c.record}
}

type recordingDiscovery struct {
	discoveryclient.DiscoveryV1Interface
	record *sliceRecord
}

func (d recordingDiscovery) EndpointSlices(string) discoveryclient.EndpointSliceInterface {
	return recordingSlices{record: d.record}
}

type recordingSlices struct {
	discoveryclient.EndpointSliceInterface
	record *sliceRecord
}

func (s recordingSlices) Create(_ context.Context, slice *discoveryv1.EndpointSlice, _ metav1.CreateOptions) (*discoveryv1.EndpointSlice, error) {
	s.record.create = append(s.record.create, slice)
	return slice, nil
}

func (s recordingSlices) Update(_ context.Context, slice *discoveryv1.EndpointSlice, _ metav1.UpdateOptions) (*discoveryv1.EndpointSlice, error) {
	s.record.update = append(s.record.update, slice)
	return slice, nil
}

func (s recordingSlices) Delete(_ context.Context, name string, _ metav1.DeleteOptions) error {
	if s.record.deleted == nil {
		s.record.deleted = map[string]bool{}
	}
	s.record.deleted[name] = true
	return nil
}

// nodeLister shows the library the nodes we observed.
type nodeLister struct {
	corelisters.NodeLister
	nodes map[string]*corev1.Node
}

func (l nodeLister) Get(name string) (*corev1.Node, error) {
	if node := l.nodes[name]; node != nil {
		return node, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("nodes"), name)
}

func (l nodeLister) List(labels.Selector) ([]*corev1.Node, error) { return nil, nil }
