package nft_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// BenchmarkColdLoad programs 1,000 to 30,000 Services with 10 endpoints into an empty namespace and
// says what each step of it takes.
func BenchmarkColdLoad(b *testing.B) {
	lab.Require(b)
	for _, n := range []int{1000, 10000, 30000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkColdLoad(b, n) })
	}
}

func benchmarkColdLoad(b *testing.B, n int) {
	services, endpointSlices := objects(n)
	var build, apply, write, change time.Duration
	for b.Loop() {
		inNamespace(b, func() error {
			tables, err := nft.Open(nft.Layout{})
			if err != nil {
				return err
			}
			defer tables.Close()
			started := time.Now()
			update := ruleset.Update{Services: map[types.NamespacedName]*proxy.Service{}}
			for i := range services {
				one := proxy.Build(services[i], endpointSlices[i], proxy.Node{})
				update.Services[types.NamespacedName{Namespace: services[i].Namespace, Name: services[i].Name}] = &one
			}
			build += time.Since(started)
			started = time.Now()
			state := ruleset.NewState()
			result := state.Apply(update)
			apply += time.Since(started)
			started = time.Now()
			err = tables.Replace(&result.Change)
			write += time.Since(started)
			if err != nil {
				return err
			}
			return addOne(tables, state, &change)
		})
	}
	per := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(b.N) }
	b.ReportMetric(per(build), "build-ms/op")
	b.ReportMetric(per(apply), "apply-ms/op")
	b.ReportMetric(per(write), "write-ms/op")
	b.ReportMetric(per(change), "new-service-ms/op")
}

// addOne adds Services one by one.
func addOne(tables *nft.Tables, state *ruleset.State, took *time.Duration) error {
	const times = 20
	services, endpointSlices := objects(times)
	for i := range times {
		services[i].Spec.ClusterIP = netip.AddrFrom4([4]byte{10, 200, 0, byte(i)}).String()
		services[i].Spec.ClusterIPs = nil
		one := proxy.Build(services[i], endpointSlices[i], proxy.Node{})
		started := time.Now()
		result := state.Apply(ruleset.Update{Services: map[types.NamespacedName]*proxy.Service{{Name: fmt.Sprint(i)}: &one}})
		if err := tables.Commit(&result.Change); err != nil {
			return err
		}
		*took += time.Since(started) / times
	}
	return nil
}

func objects(n int) (services []*corev1.Service, endpointSlices [][]*discoveryv1.EndpointSlice) {
	tcp, port := corev1.ProtocolTCP, int32(8080)
	name := "http"
	for i := range n {
		vip := netip.AddrFrom4([4]byte{10, 96 + byte(i>>16), byte(i >> 8), byte(i)}).String()
		services = append(services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("service-%d", i)},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeClusterIP, ClusterIP: vip, ClusterIPs: []string{vip},
				Ports: []corev1.ServicePort{{Name: name, Port: 80, Protocol: tcp}},
			},
		})
		slice := &discoveryv1.EndpointSlice{
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
		}
		for j := range 10 {
			e := 10*i + j
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{netip.AddrFrom4([4]byte{10, 128 + byte(e>>16), byte(e >> 8), byte(e)}).String()},
			})
		}
		endpointSlices = append(endpointSlices, []*discoveryv1.EndpointSlice{slice})
	}
	return services, endpointSlices
}
