package servicegroup

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
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
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// slicePlanner computes the changes to the EndpointSlices of one group. It writes nothing and may
// change the slices it is given.
type slicePlanner interface {
	compute(sliceRequest) (plan.Slices, error)
}

// sliceRequest is one group: its synthetic Service, its pods, and the slices it has.
type sliceRequest struct {
	service  *corev1.Service
	pods     []*corev1.Pod
	existing []*discoveryv1.EndpointSlice
	nodes    plan.Nodes
	trigger  time.Time
}

// sliceInput is all groups of a Service.
type sliceInput struct {
	service *corev1.Service
	entry   plan.EntryPoint
	members []plan.Membership
	found   []*discoveryv1.EndpointSlice
	nodes   plan.Nodes
	trigger time.Time
}

// computeSlices computes the changes of all groups, in the order of the groups.
func computeSlices(planner slicePlanner, in sliceInput) (plan.Slices, error) {
	existing := plan.SortSlices(in.service, in.entry, in.found)
	all := plan.Slices{Delete: existing.Stray}
	for _, member := range in.members {
		group, err := computeGroup(planner, in, &member, existing.ByGroup[member.Group])
		if err != nil {
			return plan.Slices{}, fmt.Errorf("computing the EndpointSlices of group %s: %w", member.Group, err)
		}
		all.Create = append(all.Create, group.Create...)
		all.Update = append(all.Update, group.Update...)
		all.Delete = append(all.Delete, group.Delete...)
		all.Final = append(all.Final, group.Final...)
	}
	return all, nil
}

func computeGroup(planner slicePlanner, in sliceInput, member *plan.Membership, existing []*discoveryv1.EndpointSlice) (plan.Slices, error) {
	service := plan.GroupService(in.service, in.entry, member.Group)
	if member.External != nil {
		return plan.ExternalSlices(service, existing, member.External), nil
	}
	return planner.compute(sliceRequest{service: service, pods: member.Pods, existing: existing, nodes: in.nodes, trigger: in.trigger})
}

// endpointSlicePlanner is k8s.io/endpointslice, the library of kube-controller-manager, writing
// into a record instead of to the API server. That way its decisions are a value, its map order is
// put in order, and the errors of the real writes are ours to see: the library hides conflicts.
type endpointSlicePlanner struct{}

func (endpointSlicePlanner) compute(req sliceRequest) (plan.Slices, error) {
	record := &sliceRecord{}
	// A library reconciler for every call: it keeps counts per Service, and ours are per group.
	lib := endpointslice.NewReconciler(recordingClient{record: record}, nodeLister{nodes: req.nodes},
		plan.MaxEndpointsPerSlice, endpointsliceutil.NewEndpointSliceTracker(), nil, nil, v1alpha1.ManagedBy,
		endpointslice.WithPreferSameTrafficDistributionEnabled(true))
	if err := lib.Reconcile(logr.Discard(), req.service, req.pods, req.existing, req.trigger); err != nil {
		return plan.Slices{}, err
	}
	return record.slices(req.existing), nil
}

// sliceRecord is what the library wanted to write.
type sliceRecord struct {
	create, update []*discoveryv1.EndpointSlice
	deleted        map[string]bool
}

// slices puts the record in order and adds the result.
func (r *sliceRecord) slices(existing []*discoveryv1.EndpointSlice) plan.Slices {
	out := plan.Slices{Create: r.create, Update: r.update}
	for _, slice := range append(slices.Clone(out.Create), out.Update...) {
		slices.SortStableFunc(slice.Endpoints, compareEndpoints)
	}
	slices.SortStableFunc(out.Create, func(a, b *discoveryv1.EndpointSlice) int {
		return cmp.Or(cmp.Compare(a.AddressType, b.AddressType), slices.CompareFunc(a.Endpoints, b.Endpoints, compareEndpoints))
	})
	slices.SortStableFunc(out.Update, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
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

func compareEndpoints(a, b discoveryv1.Endpoint) int { return slices.Compare(a.Addresses, b.Addresses) }

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
	nodes plan.Nodes
}

func (l nodeLister) Get(name string) (*corev1.Node, error) {
	if node := l.nodes[name]; node != nil {
		return node, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("nodes"), name)
}

func (l nodeLister) List(labels.Selector) ([]*corev1.Node, error) { return nil, nil }
