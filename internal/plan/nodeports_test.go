package plan_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

var wholeRange = plan.NodePortRange{First: 30000, Last: 32767}

func numberedGroup(name string, ports ...v1alpha1.Port) *v1alpha1.ServiceGroup {
	return &v1alpha1.ServiceGroup{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:       v1alpha1.ServiceGroupSpec{Type: corev1.ServiceTypeNodePort, Ports: ports},
	}
}

// numbersOf are the NodePorts in the order of the ports.
func numbersOf(sg *v1alpha1.ServiceGroup) []int32 {
	var out []int32
	for i := range sg.Spec.Ports {
		out = append(out, sg.Spec.Ports[i].NodePort)
	}
	return out
}

// The numbers are a promise: manifests, firewalls and bookmarks outlive any version of the operator.
func TestNodePortsNeverChange(t *testing.T) {
	sg := numberedGroup("guestbook", v1alpha1.Port{Name: "http", Port: 80}, v1alpha1.Port{Name: "https", Port: 443})
	for r, want := range map[plan.NodePortRange][]int32{
		wholeRange:                  {32697, 30152},
		{First: 31000, Last: 31009}: {31005, 31002},
		{First: 30000, Last: 30001}: {30001, 30000},
	} {
		got, err := plan.NodePorts(plan.NodePortRequest{Group: sg, Range: r})
		if err != nil || !slices.Equal(numbersOf(got), want) {
			t.Errorf("%s: %v, %v; want %v", r, numbersOf(got), err, want)
		}
	}
	if !slices.Equal(numbersOf(sg), []int32{0, 0}) {
		t.Error("the argument was changed")
	}
}

func TestNodePorts(t *testing.T) {
	http := v1alpha1.Port{Name: "http", Port: 80}
	dns, dnsTCP := v1alpha1.Port{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}, v1alpha1.Port{Name: "dns-tcp", Port: 53}
	live := func(number int32, owned bool) *corev1.Service {
		svc := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, NodePort: number}}}}
		if owned {
			svc.ManagedFields = []metav1.ManagedFieldsEntry{{
				Manager: v1alpha1.ManagedBy, Operation: metav1.ManagedFieldsOperationApply, APIVersion: "v1", FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:protocol":{},"f:nodePort":{}}}}}`),
			}}
		}
		return svc
	}
	had := plan.Allocated{NodePorts: []plan.AllocatedPort{{Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30123}}}
	first := numbersOf(assign(t, plan.NodePortRequest{Group: numberedGroup("web", http)}))[0]
	second := numbersOf(assign(t, plan.NodePortRequest{Group: numberedGroup("web", http), Taken: map[int32]bool{first: true}}))[0]
	clusterIP, balanced, unnumbered := numberedGroup("web", http), numberedGroup("web", http), numberedGroup("web", http)
	clusterIP.Spec.Type = ""
	balanced.Spec.Type, unnumbered.Spec.Type = corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer
	unnumbered.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
	tests := map[string]struct {
		request plan.NodePortRequest
		want    []int32
	}{
		"ClusterIP needs none":                       {plan.NodePortRequest{Group: clusterIP}, []int32{0}},
		"LoadBalancer":                               {plan.NodePortRequest{Group: balanced}, []int32{first}},
		"LoadBalancer without NodePorts":             {plan.NodePortRequest{Group: unnumbered}, []int32{0}},
		"explicit":                                   {plan.NodePortRequest{Group: numberedGroup("web", v1alpha1.Port{Name: "http", Port: 80, NodePort: 30123})}, []int32{30123}},
		"explicit is not questioned":                 {plan.NodePortRequest{Group: numberedGroup("web", v1alpha1.Port{Name: "http", Port: 80, NodePort: 30123}), Taken: map[int32]bool{30123: true}}, []int32{30123}},
		"explicit on the probe of another":           {plan.NodePortRequest{Group: numberedGroup("web", http, v1alpha1.Port{Name: "x", Port: 81, NodePort: first})}, []int32{second, first}},
		"held by another":                            {plan.NodePortRequest{Group: numberedGroup("web", http), Taken: map[int32]bool{first: true}}, []int32{second}},
		"refused":                                    {plan.NodePortRequest{Group: numberedGroup("web", http), Refused: map[int32]bool{first: true}}, []int32{second}},
		"what the Service has stays":                 {plan.NodePortRequest{Group: numberedGroup("web", http), Live: live(31999, false)}, []int32{31999}},
		"outside the range too":                      {plan.NodePortRequest{Group: numberedGroup("web", http), Live: live(20000, false)}, []int32{20000}},
		"explicit moves it":                          {plan.NodePortRequest{Group: numberedGroup("web", v1alpha1.Port{Name: "http", Port: 80, NodePort: 30123}), Live: live(31999, true)}, []int32{30123}},
		"and taking it back does not":                {plan.NodePortRequest{Group: numberedGroup("web", http), Had: had, Live: live(30123, true)}, []int32{30123}},
		"edited by hand":                             {plan.NodePortRequest{Group: numberedGroup("web", http), Had: had, Live: live(31999, false)}, []int32{30123}},
		"edited by hand and the old one refused":     {plan.NodePortRequest{Group: numberedGroup("web", http), Had: had, Live: live(31999, false), Refused: map[int32]bool{30123: true}}, []int32{31999}},
		"written by us but not yet recorded":         {plan.NodePortRequest{Group: numberedGroup("web", http), Had: had, Live: live(31999, true)}, []int32{31999}},
		"Service gone":                               {plan.NodePortRequest{Group: numberedGroup("web", http), Had: had}, []int32{30123}},
		"Service gone, the one before refused":       {plan.NodePortRequest{Group: numberedGroup("web", http), Had: had, Refused: map[int32]bool{30123: true}}, []int32{first}},
		"its own healthCheckNodePort is no NodePort": {plan.NodePortRequest{Group: numberedGroup("web", http), Had: plan.Allocated{HealthCheckNodePort: first}}, []int32{second}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := numbersOf(assign(t, test.request)); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	t.Run("two protocols of one port number share, in any order", func(t *testing.T) {
		a := numbersOf(assign(t, plan.NodePortRequest{Group: numberedGroup("dns", dns, dnsTCP)}))
		b := numbersOf(assign(t, plan.NodePortRequest{Group: numberedGroup("dns", dnsTCP, dns)}))
		if a[0] != a[1] || !slices.Equal(a, b) {
			t.Errorf("%v and %v", a, b)
		}
	})
	t.Run("a port that comes later shares what is there", func(t *testing.T) {
		svc := live(31999, true)
		svc.Spec.Ports[0].Port = 53
		if got := numbersOf(assign(t, plan.NodePortRequest{Group: numberedGroup("dns", dns, dnsTCP), Live: svc})); !slices.Equal(got, []int32{31999, 31999}) {
			t.Error(got)
		}
	})
	t.Run("two port numbers that share one already go on", func(t *testing.T) {
		svc := live(31999, true)
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, NodePort: 31999})
		if got := numbersOf(assign(t, plan.NodePortRequest{Group: numberedGroup("web", http, dns), Live: svc})); !slices.Equal(got, []int32{31999, 31999}) {
			t.Error(got)
		}
	})
}

func assign(t *testing.T, request plan.NodePortRequest) *v1alpha1.ServiceGroup {
	t.Helper()
	if request.Range.Empty() {
		request.Range = wholeRange
	}
	out, err := plan.NodePorts(request)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNodePortsFull(t *testing.T) {
	request := plan.NodePortRequest{
		Group: numberedGroup("web", v1alpha1.Port{Name: "http", Port: 80}),
		Range: plan.NodePortRange{First: 30000, Last: 30001},
		Taken: map[int32]bool{30001: true, 30000: true, 30500: true},
	}
	_, err := plan.NodePorts(request)
	const want = "spec.ports[0].nodePort: no number of --node-port-range=30000-30001 is free; ask who runs the cluster to widen the range, or name a nodePort outside of it"
	var full *plan.NodePortsFullError
	if !errors.As(err, &full) || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if out, err := plan.NodePorts(plan.NodePortRequest{Group: request.Group}); err != nil || out != request.Group {
		t.Errorf("without a range: %v", err)
	}
}

func TestParseNodePortRange(t *testing.T) {
	for text, want := range map[string]plan.NodePortRange{
		"": {}, "30000-32767": wholeRange, "30000-30000": {First: 30000, Last: 30000}, "1-65535": {First: 1, Last: 65535},
	} {
		if got, err := plan.ParseNodePortRange(text); err != nil || got != want || got.String() != text {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"30000", "a-b", "30001-30000", "0-10", "1-65536", "30000-", "-1-5"} {
		if _, err := plan.ParseNodePortRange(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// drawRequest draws a request in a small range, so that ports meet.
func drawRequest(t *rapid.T) plan.NodePortRequest {
	size := rapid.Int32Range(1, 40).Draw(t, "size")
	sg := numberedGroup(rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "name"))
	keys := rapid.SliceOfNDistinct(rapid.Int32Range(1, 12), 1, 6, rapid.ID).Draw(t, "ports")
	for i, number := range keys {
		sg.Spec.Ports = append(sg.Spec.Ports, v1alpha1.Port{Name: fmt.Sprintf("p%d", i), Port: number, Protocol: corev1.ProtocolTCP})
		if rapid.Bool().Draw(t, "both") {
			sg.Spec.Ports = append(sg.Spec.Ports, v1alpha1.Port{Name: fmt.Sprintf("u%d", i), Port: number, Protocol: corev1.ProtocolUDP})
		}
	}
	request := plan.NodePortRequest{Group: sg, Range: plan.NodePortRange{First: 30000, Last: 30000 + size - 1}, Taken: map[int32]bool{}}
	for _, number := range rapid.SliceOf(rapid.Int32Range(30000, 30000+size-1)).Draw(t, "taken") {
		request.Taken[number] = true
	}
	return request
}

// portNumbers counts the numbers that a ServiceGroup needs.
func portNumbers(sg *v1alpha1.ServiceGroup) int {
	found := map[int32]bool{}
	for i := range sg.Spec.Ports {
		found[sg.Spec.Ports[i].Port] = true
	}
	return len(found)
}

func TestNodePortsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		request := drawRequest(t)
		got, err := plan.NodePorts(request)
		free := int(request.Range.Size()) - len(request.Taken)
		if (err == nil) != (free >= portNumbers(request.Group)) {
			t.Fatalf("%d numbers are free, %d needed: %v", free, portNumbers(request.Group), err)
		}
		if err != nil {
			return
		}
		byNumber := map[int32]int32{}
		for i := range got.Spec.Ports {
			port := &got.Spec.Ports[i]
			if port.NodePort < request.Range.First || port.NodePort > request.Range.Last {
				t.Fatalf("%d is outside %s", port.NodePort, request.Range)
			}
			if request.Taken[port.NodePort] {
				t.Fatalf("%d is taken", port.NodePort)
			}
			if before, ok := byNumber[port.NodePort]; ok && before != port.Port {
				t.Fatalf("ports %d and %d got %d", before, port.Port, port.NodePort)
			}
			byNumber[port.NodePort] = port.Port
		}
		// The order of the ports makes no difference, and doing it again neither.
		shuffled := request
		shuffled.Group = request.Group.DeepCopy()
		shuffled.Group.Spec.Ports = rapid.Permutation(shuffled.Group.Spec.Ports).Draw(t, "order")
		again := byName(assignRapid(t, shuffled))
		if !maps.Equal(byName(got), again) {
			t.Fatalf("%v, in another order %v", byName(got), again)
		}
		// Whoever comes or goes on numbers that the ports did not come by makes no difference.
		other := request
		other.Taken = map[int32]bool{}
		for number := range request.Taken { // all stay that were met, and the rest may go
			if rapid.Bool().Draw(t, "stays") || met(request, number) {
				other.Taken[number] = true
			}
		}
		if now := byName(assignRapid(t, other)); !maps.Equal(byName(got), now) {
			t.Fatalf("%v, without others that it never met %v", byName(got), now)
		}
		// What the Service has by then, it keeps, whatever else happens.
		kept := other
		kept.Taken, kept.Live = map[int32]bool{}, &corev1.Service{Spec: corev1.ServiceSpec{}}
		for i := range got.Spec.Ports {
			p := &got.Spec.Ports[i]
			kept.Live.Spec.Ports = append(kept.Live.Spec.Ports, corev1.ServicePort{Name: p.Name, Port: p.Port, Protocol: p.Protocol, NodePort: p.NodePort})
		}
		kept.Range = plan.NodePortRange{First: 20000, Last: 20005}
		if now := byName(assignRapid(t, kept)); !maps.Equal(byName(got), now) {
			t.Fatalf("%v moved to %v", byName(got), now)
		}
	})
}

// met says whether the assignment would differ without somebody on this number.
func met(request plan.NodePortRequest, number int32) bool {
	with, err := plan.NodePorts(request)
	if err != nil {
		return true
	}
	without := request
	without.Taken = maps.Clone(request.Taken)
	delete(without.Taken, number)
	now, err := plan.NodePorts(without)
	return err != nil || !slices.Equal(numbersOf(with), numbersOf(now))
}

func byName(sg *v1alpha1.ServiceGroup) map[string]int32 {
	out := map[string]int32{}
	for i := range sg.Spec.Ports {
		out[sg.Spec.Ports[i].Name] = sg.Spec.Ports[i].NodePort
	}
	return out
}

func assignRapid(t *rapid.T, request plan.NodePortRequest) *v1alpha1.ServiceGroup {
	t.Helper()
	out, err := plan.NodePorts(request)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Numbers are spread over the range: 200 ServiceGroups in a range of 2,768 rarely meet.
func TestNodePortsSpread(t *testing.T) {
	seen := map[int32]bool{}
	for i := range 200 {
		sg := numberedGroup(fmt.Sprintf("web-%d", i), v1alpha1.Port{Name: "http", Port: 80})
		seen[numbersOf(assign(t, plan.NodePortRequest{Group: sg}))[0]] = true
	}
	if len(seen) < 185 { // 193 expected
		t.Errorf("200 ServiceGroups have %d different first choices", len(seen))
	}
}
