package plan_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

var documentation = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}

// sliceFrom is a slice of the group db with one address, of a hostname unless it is "-".
func sliceFrom(hostname, address string) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelGroup: "db"}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Serving: ptr.To(true)}}},
	}
	if hostname != "-" {
		slice.Annotations = map[string]string{v1alpha1.AnnotationHostname: hostname}
	}
	return slice
}

// What slices list is served as the hostname's only if they say that it is; what another name led to is
// served, as the other's, until the first lookup ends; and never what is not allowed.
func TestTheAddressesOfAnotherName(t *testing.T) {
	answer := []netip.Addr{netip.MustParseAddr("192.0.2.9")}
	for name, test := range map[string]struct {
		found  []*discoveryv1.EndpointSlice
		lookup plan.Resolved
		served string
		source string
	}{
		"own, not looked up yet":           {[]*discoveryv1.EndpointSlice{sliceFrom("new.example", "192.0.2.1")}, plan.Resolved{}, "192.0.2.1", "new.example"},
		"own, lookup fails":                {[]*discoveryv1.EndpointSlice{sliceFrom("new.example", "192.0.2.1")}, plan.Resolved{Failure: "no"}, "192.0.2.1", "new.example"},
		"own, found":                       {[]*discoveryv1.EndpointSlice{sliceFrom("new.example", "192.0.2.1")}, plan.Resolved{Found: true, Addresses: answer}, "192.0.2.9", "new.example"},
		"other, not looked up yet":         {[]*discoveryv1.EndpointSlice{sliceFrom("old.example", "192.0.2.1")}, plan.Resolved{}, "192.0.2.1", "old.example"},
		"other, lookup fails":              {[]*discoveryv1.EndpointSlice{sliceFrom("old.example", "192.0.2.1")}, plan.Resolved{Failure: "no"}, "", "new.example"},
		"other, found":                     {[]*discoveryv1.EndpointSlice{sliceFrom("old.example", "192.0.2.1")}, plan.Resolved{Found: true, Addresses: answer}, "192.0.2.9", "new.example"},
		"spec's, not looked up yet":        {[]*discoveryv1.EndpointSlice{sliceFrom("", "192.0.2.1")}, plan.Resolved{}, "192.0.2.1", ""},
		"spec's, lookup fails":             {[]*discoveryv1.EndpointSlice{sliceFrom("", "192.0.2.1")}, plan.Resolved{Failure: "no"}, "", "new.example"},
		"own beside other":                 {[]*discoveryv1.EndpointSlice{sliceFrom("old.example", "192.0.2.1"), sliceFrom("new.example", "192.0.2.2")}, plan.Resolved{}, "192.0.2.2", "new.example"},
		"two others":                       {[]*discoveryv1.EndpointSlice{sliceFrom("z.example", "192.0.2.1"), sliceFrom("a.example", "192.0.2.2")}, plan.Resolved{}, "192.0.2.2", "a.example"},
		"not recorded, of before":          {[]*discoveryv1.EndpointSlice{sliceFrom("-", "192.0.2.1")}, plan.Resolved{Failure: "no"}, "192.0.2.1", "new.example"},
		"own, edited to what is elsewhere": {[]*discoveryv1.EndpointSlice{sliceFrom("new.example", "10.0.0.1")}, plan.Resolved{Failure: "no"}, "", "new.example"},
		"other, edited":                    {[]*discoveryv1.EndpointSlice{sliceFrom("old.example", "127.0.0.1")}, plan.Resolved{}, "", "old.example"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := &corev1.Service{Spec: corev1.ServiceSpec{IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}}}
			lookup := plan.KnownExternal(test.found, "db", "new.example").Complete("new.example", test.lookup)
			got := plan.ExternalOf(&v1alpha1.External{Hostname: "new.example"}, svc, lookup, documentation)
			var served []string
			for _, e := range got.Endpoints {
				served = append(served, e.Address.String())
			}
			if strings.Join(served, " ") != test.served || got.Source != test.source {
				t.Errorf("serves %v of %q, want %q of %q", served, got.Source, test.served, test.source)
			}
			if len(got.NotAllowed)+got.AnswersNotAllowed > 0 {
				t.Errorf("tells what a slice listed: %+v", got)
			}
		})
	}
}

// Whatever somebody writes into a slice, nothing is served that is not allowed, and as the hostname's only
// where the slice says exactly that.
func FuzzKnownExternal(f *testing.F) {
	for _, address := range []string{"192.0.2.1", "::ffff:192.0.2.1", "10.0.0.1", "fe80::1%eth0", "192.0.2.1%lo", "", "name"} {
		for _, hostname := range []string{"db.example", "DB.example", "db.example.", "", "x\x00"} {
			f.Add(address, hostname)
		}
	}
	svc := &corev1.Service{Spec: corev1.ServiceSpec{IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}}}
	f.Fuzz(func(t *testing.T, address, hostname string) {
		known := plan.KnownExternal([]*discoveryv1.EndpointSlice{sliceFrom(hostname, address)}, "db", "db.example")
		failed := known.Complete("db.example", plan.Resolved{Failure: "no"})
		if len(failed.Addresses) > 0 && hostname != "db.example" && hostname != "-" {
			t.Errorf("the addresses of %q are taken for those of db.example", hostname)
		}
		got := plan.ExternalOf(&v1alpha1.External{Hostname: "db.example"}, svc, known.Complete("db.example", plan.Resolved{}), documentation)
		for _, e := range got.Endpoints {
			if !plan.AllowedExternal(e.Address, documentation) {
				t.Errorf("%s is served", e.Address)
			}
		}
	})
}

// ResolvedRefs is there only while there is something to look up, and says what is served all the same;
// no name stalls a spec.
func TestResolvedRefs(t *testing.T) {
	served := plan.ExternalEndpoint{Address: netip.MustParseAddr("192.0.2.1"), Ready: true}
	for name, test := range map[string]struct {
		external plan.External
		want     string
	}{
		"addresses":          {plan.External{Endpoints: []plan.ExternalEndpoint{served}}, ""},
		"nothing is allowed": {plan.External{Hostname: "db.example", NoRanges: true}, ""},
		"found":              {plan.External{Hostname: "db.example", Source: "db.example", Endpoints: []plan.ExternalEndpoint{served}}, "True ResolvedRefs: every hostname is resolved"},
		"failed":             {plan.External{Hostname: "db.example", Source: "db.example", Failure: "the DNS servers fail"}, "False HostnameNotResolved: group db: hostname db.example is not resolved: the DNS servers fail"},
		"failed, served": {plan.External{Hostname: "db.example", Source: "db.example", Failure: "the DNS servers fail", Endpoints: []plan.ExternalEndpoint{served}},
			"False HostnameNotResolved: group db: hostname db.example is not resolved: the DNS servers fail; the addresses found last are served"},
		"pending": {plan.External{Hostname: "db.example", Source: "db.example", Pending: true}, "Unknown Pending: group db: hostname db.example is looked up"},
		"pending, of another": {plan.External{Hostname: "db.example", Source: "old.example", Pending: true, Endpoints: []plan.ExternalEndpoint{served}},
			"Unknown Pending: group db: hostname db.example is looked up; until then the addresses of old.example are served"},
		"pending, of the spec": {plan.External{Hostname: "db.example", Pending: true, Endpoints: []plan.ExternalEndpoint{served}},
			"Unknown Pending: group db: hostname db.example is looked up; until then the addresses that the group had before are served"},
		"some are not allowed": {plan.External{Hostname: "db.example", Source: "db.example", AnswersNotAllowed: 2, Endpoints: []plan.ExternalEndpoint{served}},
			"False AddressNotAllowed: group db: hostname db.example leads to addresses that may not be served and are left out (2); " +
				"ask who runs the cluster to allow them with the manager's --external-ranges"},
	} {
		t.Run(name, func(t *testing.T) {
			status := plan.ReportOf(plan.Outcome{
				Group: &v1alpha1.ServiceGroup{}, Service: &corev1.Service{},
				Members: []plan.Membership{{Group: "db", External: &test.external}},
			}).Status
			got := ""
			for _, c := range status.Conditions {
				if c.Type == v1alpha1.ConditionResolvedRefs {
					got = string(c.Status) + " " + c.Reason + ": " + c.Message
				}
				if stalled := c.Type == v1alpha1.ConditionStalled; stalled && !test.external.NoRanges {
					t.Errorf("stalled: %s", c.Message)
				}
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// The port of the check is the first TCP port that leads to the group, and it alone.
func TestCheckedPort(t *testing.T) {
	group := v1alpha1.Group{Name: "db", External: &v1alpha1.External{Addresses: []string{"192.0.2.1", "192.0.2.2", "::ffff:192.0.2.2"}, HealthCheck: &v1alpha1.HealthCheck{}}}
	spec := &v1alpha1.ServiceGroupSpec{
		Groups: []v1alpha1.Group{group, {Name: "other"}, {Name: "name", External: &v1alpha1.External{Hostname: "db.example", HealthCheck: &v1alpha1.HealthCheck{Port: 1}}}},
		Ports: []v1alpha1.Port{
			{Port: 53, Protocol: corev1.ProtocolUDP},
			{Port: 80, Backends: []v1alpha1.Backend{{Group: "other"}}},
			{Port: 443},
			{Port: 22},
		},
	}
	served, err := plan.Resolve(spec)
	if err != nil {
		t.Fatal(err)
	}
	checked := served.Groups[0]
	if port, ok := served.CheckedPort(&checked); !ok || port != 443 {
		t.Errorf("checks port %d, want 443", port)
	}
	if got := served.HealthChecks(); got != 2+100 {
		t.Errorf("%d health checks, want 2 of addresses and at most 100 of a name", got)
	}
	group.External.HealthCheck.Port = 8443
	if port, _ := served.CheckedPort(&checked); port != 8443 {
		t.Errorf("checks port %d, want the 8443 it is told", port)
	}
	served.Ports = served.Ports[:2]
	group.External.HealthCheck.Port = 0
	if port, ok := served.CheckedPort(&checked); ok {
		t.Errorf("checks port %d of another group or protocol", port)
	}
}

func TestNoHealthCheckLastsLongerThanItsPeriod(t *testing.T) {
	for name, test := range map[string]struct {
		given           v1alpha1.HealthCheck
		period, timeout int32
	}{
		"defaults":             {v1alpha1.HealthCheck{}, 10, 1},
		"given":                {v1alpha1.HealthCheck{PeriodSeconds: 5, TimeoutSeconds: 5}, 5, 5},
		"stored before a rule": {v1alpha1.HealthCheck{PeriodSeconds: 5, TimeoutSeconds: 60}, 5, 5},
	} {
		got := plan.HealthCheckOf(&v1alpha1.External{HealthCheck: &test.given})
		if got.PeriodSeconds != test.period || got.TimeoutSeconds != test.timeout || got.SuccessThreshold != 1 || got.FailureThreshold != 3 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// The slices record the hostname, and what was edited there is put back.
func TestSlicesRecordTheirHostname(t *testing.T) {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Labels: map[string]string{v1alpha1.LabelGroup: "db"}},
		Spec:       corev1.ServiceSpec{IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
	}
	external := plan.External{Hostname: "db.example", Source: "db.example"}
	slice := plan.ExternalSlices(svc, nil, &external).Create[0]
	want := map[string]string{v1alpha1.AnnotationHostname: "db.example"}
	if !maps.Equal(slice.Annotations, want) {
		t.Fatalf("annotations %v", slice.Annotations)
	}
	for _, edited := range []map[string]string{nil, {v1alpha1.AnnotationHostname: "other.example"}} {
		slice.Annotations = edited
		update := plan.ExternalSlices(svc, []*discoveryv1.EndpointSlice{slice}, &external).Update
		if !slices.ContainsFunc(update, func(s *discoveryv1.EndpointSlice) bool { return maps.Equal(s.Annotations, want) }) {
			t.Errorf("with annotations %v it is not put back", edited)
		}
	}
}
