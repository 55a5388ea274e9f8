package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	// maxServices is what the address ranges below have room for.
	maxServices = 60000
	// endpointsEach is the number of endpoints of a Service.
	endpointsEach = 10
	servicePort   = 80
	endpointPort  = 8080
	// probe is the Service that has one endpoint only, so that the first packet sees a change of that.
	probe = 1
	// writers is how many objects are written at a time.
	writers = 24

	namespace = metav1.NamespaceDefault
)

var (
	// endpointRange has the addresses of all endpoints; its upper half is for those that come by a
	// change.
	endpointRange  = netip.MustParsePrefix("10.128.0.0/9")
	firstEndpoint  = netip.MustParseAddr("10.128.1.0")
	firstNewcomer  = netip.MustParseAddr("10.192.1.0")
	firstVirtualIP = netip.MustParseAddr("10.104.0.1")
)

// objects are the Services of the bench and their slices.
type objects struct {
	client   kubernetes.Interface
	nodeName string // of the endpoints
	services [][]netip.Addr
	former   map[int][]netip.Addr // endpoints that were replaced
	changed  int                  // how many were replaced so far
}

// newObjects has no Service yet.
func newObjects(config *rest.Config, nodeName string) (*objects, error) {
	config.ContentType = runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("creating a client: %w", err)
	}
	return &objects{client: client, nodeName: nodeName, former: map[int][]netip.Addr{}}, nil
}

func (o *objects) size() int { return len(o.services) }

// virtualIP is the ClusterIP and port of Service i.
func virtualIP(i int) netip.AddrPort {
	return netip.AddrPortFrom(addressAfter(firstVirtualIP, i), servicePort)
}

// addressAfter is the n-th address after a.
func addressAfter(a netip.Addr, n int) netip.Addr {
	b := a.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	v += uint32(n)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

func serviceName(i int) string { return fmt.Sprintf("bench-%05d", i) }

// grow creates Services and slices until there are so many.
func (o *objects) grow(ctx context.Context, size int) error {
	first := o.size()
	for i := first; i < size; i++ {
		count := endpointsEach
		if i == probe {
			count = 1
		}
		endpoints := make([]netip.Addr, count)
		for j := range endpoints {
			endpoints[j] = addressAfter(firstEndpoint, i*endpointsEach+j)
		}
		o.services = append(o.services, endpoints)
	}
	return inParallel(ctx, first, size, o.create)
}

// inParallel calls run(first) to run(end-1), as many as there are writers at a time, until one fails.
func inParallel(ctx context.Context, first, end int, run func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		next    atomic.Int64
		workers sync.WaitGroup
	)
	next.Store(int64(first))
	for range writers {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < end && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := run(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// create creates Service i and its slice.
func (o *objects) create(ctx context.Context, i int) error {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName(i)},
		Spec: corev1.ServiceSpec{
			ClusterIP: virtualIP(i).Addr().String(),
			Ports:     []corev1.ServicePort{{Name: "http", Port: servicePort, Protocol: corev1.ProtocolTCP}},
		},
	}
	if _, err := o.client.CoreV1().Services(namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating a Service: %w", err)
	}
	if _, err := o.client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, o.slice(i), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating an EndpointSlice: %w", err)
	}
	return nil
}

// slice looks like one of kube-controller-manager's.
func (o *objects) slice(i int) *discoveryv1.EndpointSlice {
	yes, no, port, name, protocol := true, false, int32(endpointPort), "http", corev1.ProtocolTCP
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName(i), Labels: map[string]string{
			discoveryv1.LabelServiceName: serviceName(i),
			discoveryv1.LabelManagedBy:   "bench",
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	for j, address := range o.services[i] {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{address.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
			NodeName:   &o.nodeName,
			TargetRef: &corev1.ObjectReference{
				Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%s-%d", serviceName(i), j),
				UID: types.UID(fmt.Sprintf("00000000-0000-4000-8000-%06d%06d", i, j)),
			},
		})
	}
	return slice
}

// everOf are the endpoints that Service i has or had.
func (o *objects) everOf(i int) []netip.Addr {
	if former := o.former[i]; former != nil {
		return slices.Concat(o.services[i], former)
	}
	return o.services[i]
}

// newcomer is the address that the next change brings.
func (o *objects) newcomer() netip.Addr { return addressAfter(firstNewcomer, o.changed) }

// replaceEndpoint gives one endpoint of Service i the newcomer's address, by one write.
func (o *objects) replaceEndpoint(ctx context.Context, i int) error {
	newcomer := o.newcomer()
	position := o.changed % len(o.services[i])
	o.changed++
	patch, err := json.Marshal([]map[string]any{{
		"op": "replace", "path": fmt.Sprintf("/endpoints/%d/addresses/0", position), "value": newcomer.String(),
	}})
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	_, err = o.client.DiscoveryV1().EndpointSlices(namespace).Patch(ctx, serviceName(i), types.JSONPatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("changing an endpoint: %w", err)
	}
	o.former[i] = append(o.former[i], o.services[i][position])
	o.services[i][position] = newcomer
	return nil
}
