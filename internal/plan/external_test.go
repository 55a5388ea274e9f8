package plan_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// The slices of any external group, after any edits and vandalism, are what a model says; what is there
// already is written only where it differs, and a second look changes nothing.
func TestExternalSlicesAreTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store, created := map[string]*discoveryv1.EndpointSlice{}, 0
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			svc, external := drawExternal(t)
			if names := slices.Sorted(maps.Keys(store)); len(names) > 0 && rapid.Bool().Draw(t, "vandal") {
				slice := store[rapid.SampledFrom(names).Draw(t, "slice")]
				slice.Endpoints, slice.Labels = nil, map[string]string{"other": "label"}
			}
			changes := plan.ExternalSlices(svc, sorted(store), &external)
			for _, slice := range changes.Create {
				created++
				slice.Name = fmt.Sprintf("%s%05d", slice.GenerateName, created)
				store[slice.Name] = slice
			}
			for _, slice := range changes.Update {
				store[slice.Name] = slice
			}
			for _, slice := range changes.Delete {
				delete(store, slice.Name)
			}
			if len(changes.Final) != len(store) || len(store) != len(svc.Spec.IPFamilies) {
				t.Fatalf("Final has %d slices, the store %d", len(changes.Final), len(store))
			}
			if again := plan.ExternalSlices(svc, sorted(store), &external); len(again.Create)+len(again.Update)+len(again.Delete) > 0 {
				t.Fatalf("a second look changes: %+v", again)
			}
			if got, want := externalLines(store), modelLines(svc, external); !slices.Equal(got, want) {
				t.Fatalf("got  %v\nwant %v", got, want)
			}
			if len(external.Endpoints) > 0 {
				external.Endpoints[0].Ready = !external.Endpoints[0].Ready
				flip := plan.ExternalSlices(svc, sorted(store), &external)
				if len(flip.Create)+len(flip.Delete) > 0 || len(flip.Update) != 1 {
					t.Fatalf("a flip is not one update: %+v", flip)
				}
			}
		}
	})
}

func sorted(store map[string]*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, name := range slices.Sorted(maps.Keys(store)) {
		out = append(out, store[name].DeepCopy())
	}
	return out
}

func drawExternal(t *rapid.T) (*corev1.Service, plan.External) {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", UID: "uid", Labels: map[string]string{v1alpha1.LabelGroup: "g"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: rapid.SampledFrom([]string{"10.0.0.1", corev1.ClusterIPNone}).Draw(t, "clusterIP"),
			IPFamilies: rapid.SampledFrom([][]corev1.IPFamily{
				{corev1.IPv4Protocol}, {corev1.IPv6Protocol}, {corev1.IPv6Protocol, corev1.IPv4Protocol},
			}).Draw(t, "families"),
			Ports: []corev1.ServicePort{{
				Name: "http", Port: 80, Protocol: corev1.ProtocolTCP,
				TargetPort: intstr.FromInt32(rapid.Int32Range(1, 2).Draw(t, "target")),
			}},
		},
	}
	group := &v1alpha1.External{}
	for i := range rapid.IntRange(0, 130).Draw(t, "addresses") {
		group.Addresses = append(group.Addresses, fmt.Sprintf("192.0.2.%d", 1+i), fmt.Sprintf("2001:db8::%x", 1+i))
	}
	external := plan.ExternalOf(group, svc, plan.Resolved{}, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")})
	for i := range external.Endpoints {
		external.Endpoints[i].Ready = rapid.Bool().Draw(t, "ready")
	}
	return svc, external
}

func externalLines(store map[string]*discoveryv1.EndpointSlice) []string {
	var out []string
	for _, slice := range store {
		for _, e := range slice.Endpoints {
			out = append(out, fmt.Sprintf("%s %s:%d %t", slice.AddressType, e.Addresses[0], *slice.Ports[0].Port, *e.Conditions.Ready))
		}
	}
	slices.Sort(out)
	return out
}

func modelLines(svc *corev1.Service, external plan.External) []string {
	var out []string
	for _, e := range external.Endpoints {
		family := "IPv4"
		if e.Address.Is6() {
			family = "IPv6"
		}
		out = append(out, fmt.Sprintf("%s %s:%d %t", family, e.Address, svc.Spec.Ports[0].TargetPort.IntVal, e.Ready))
	}
	slices.Sort(out)
	return out
}

// Only what the administrator allows is served, and never what leads to the node itself or its links.
func TestExternalAddressesAreSorted(t *testing.T) {
	everything := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	some := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, test := range []struct {
		address string
		allowed []netip.Prefix
		served  bool
	}{
		{"192.0.2.1", some, true},
		{"192.0.2.1", nil, false},
		{"192.0.3.1", some, false},
		{"::ffff:192.0.2.1", some, true}, // as a resolver may write it
		{"::ffff:127.0.0.1", everything, false},
		{"127.0.0.1", everything, false},
		{"127.255.255.254", everything, false},
		{"::1", everything, false},
		{"0.0.0.0", everything, false},
		{"::", everything, false},
		{"169.254.169.254", everything, false},
		{"fe80::1", everything, false},
		{"224.0.0.251", everything, false},
		{"ff02::fb", everything, false},
		{"2001:db8::1", everything, true},
	} {
		svc := &corev1.Service{Spec: corev1.ServiceSpec{IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}}}
		name := plan.Resolved{Found: true, Addresses: []netip.Addr{netip.MustParseAddr(test.address)}}
		for kind, got := range map[string]plan.External{
			"address":  plan.ExternalOf(&v1alpha1.External{Addresses: []string{test.address}}, svc, plan.Resolved{}, test.allowed),
			"hostname": plan.ExternalOf(&v1alpha1.External{Hostname: "db.example"}, svc, name, test.allowed),
		} {
			if served := len(got.Endpoints) == 1; served != test.served {
				t.Errorf("%s %s with %v: %+v", kind, test.address, test.allowed, got)
			}
			// Only who wrote an address himself is told that it is not allowed.
			if told := len(got.NotAllowed) == 1; told != (kind == "address" && !test.served) {
				t.Errorf("%s %s with %v tells %v", kind, test.address, test.allowed, got.NotAllowed)
			}
		}
	}
}

func TestANameWithTooManyAddressesIsCut(t *testing.T) {
	svc := &corev1.Service{Spec: corev1.ServiceSpec{IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}}}
	var name plan.Resolved
	for i := range 120 {
		name.Addresses = append(name.Addresses, netip.AddrFrom4([4]byte{192, 0, 2, byte(120 - i)}))
	}
	got := plan.ExternalOf(&v1alpha1.External{Hostname: "db.example"}, svc, name, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})
	if len(got.Endpoints) != 100 || got.Surplus != 20 || got.Endpoints[0].Address != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("%d are served from %s, %d are not", len(got.Endpoints), got.Endpoints[0].Address, got.Surplus)
	}
}
