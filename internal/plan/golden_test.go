package plan_test

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

var update = flag.Bool("update", false, "write testdata/*/output.yaml instead of comparing with it")

// scene is an input.yaml: a ServiceGroup and what was observed of it.
type scene struct {
	Group v1alpha1.ServiceGroup `json:"group"`
	// Accepted is what Service serves, where it is not the spec.
	Accepted *v1alpha1.ServiceGroupSpec `json:"accepted"`
	Service  *corev1.Service            `json:"service"`
	Refusal  *plan.Refusal              `json:"refusal"`
	Nodes    []string                   `json:"nodes"`
	Pods     []scenePod                 `json:"pods"`
	// Names are what hostnames lead to, Allowed the ranges of the manager, Failing the addresses that
	// fail their health check.
	Names   map[string]plan.Resolved `json:"names"`
	Allowed []netip.Prefix           `json:"allowed"`
	Failing []netip.Addr             `json:"failing"`
}

type scenePod struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	Node   string            `json:"node"`
	Ready  bool              `json:"ready"`
}

// result is an output.yaml: everything that is planned.
type result struct {
	Service       any                          `json:"service"`
	Restored      any                          `json:"restored,omitempty"`
	Exposed       []plan.Exposed               `json:"exposed,omitempty"`
	GroupServices []*corev1.Service            `json:"groupServices,omitempty"`
	Members       map[string][]string          `json:"members,omitempty"`
	Slices        []*discoveryv1.EndpointSlice `json:"slices,omitempty"`
	Status        v1alpha1.ServiceGroupStatus  `json:"status"`
}

func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*/input.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no scenes: %v", err)
	}
	for _, input := range inputs {
		t.Run(filepath.Base(filepath.Dir(input)), func(t *testing.T) {
			text, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			var in scene
			if err := yaml.UnmarshalStrict(text, &in); err != nil {
				t.Fatal(err)
			}
			before := in.Group.DeepCopy()
			got, err := yaml.Marshal(planned(t, in))
			if err != nil {
				t.Fatal(err)
			}
			if a, b := asYAML(t, before), asYAML(t, in.Group); !bytes.Equal(a, b) {
				t.Errorf("the ServiceGroup was changed:\n%s", b)
			}
			compare(t, filepath.Join(filepath.Dir(input), "output.yaml"), got)
		})
	}
}

func compare(t *testing.T, golden string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s (go test ./internal/plan -update writes it anew); got:\n%s", golden, got)
	}
}

func planned(t *testing.T, in scene) result {
	t.Helper()
	desired := plan.Desired{Group: &in.Group, Revision: in.Group.Name + "-1", Had: plan.AllocatedIn(&in.Group.Status)}
	out := result{Service: plan.Service(desired)}
	if restored, ok := plan.RestoredService(desired, nil); ok {
		out.Restored = restored.Spec
	}
	outcome := plan.Outcome{Group: &in.Group, Problems: plan.Validate(&in.Group.Spec), Refusal: in.Refusal, Service: in.Service}
	if in.Service != nil {
		out.fill(t, in, &outcome)
	}
	out.Status = plan.ReportOf(outcome).Status
	return out
}

func (out *result) fill(t *testing.T, in scene, outcome *plan.Outcome) {
	t.Helper()
	spec := &in.Group.Spec
	if in.Accepted != nil {
		spec = in.Accepted
	}
	served, err := plan.Resolve(spec)
	if err != nil {
		t.Fatal(err)
	}
	members := plan.Members(in.Service, served, plan.Observed{Pods: in.pods(), Nodes: in.nodes(), External: in.external(served)})
	out.Exposed = plan.ExposedServices(&in.Group, in.Service, served)
	out.Members = map[string][]string{}
	for _, m := range members {
		svc := plan.GroupService(in.Service, served, m.Group)
		out.GroupServices = append(out.GroupServices, svc)
		out.Members[m.Group] = []string{}
		if m.External != nil {
			final := plan.ExternalSlices(svc, nil, m.External).Final
			out.Slices, outcome.Slices = append(out.Slices, final...), append(outcome.Slices, final...)
		}
		for _, pod := range m.Pods {
			out.Members[m.Group] = append(out.Members[m.Group], pod.Name)
			outcome.Slices = append(outcome.Slices, sliceOf(svc, plan.Ready(pod)))
		}
	}
	outcome.Entry, outcome.Members = served, members
}

// sliceOf is a slice with one endpoint, on the ports that pods without named ports have.
func sliceOf(svc *corev1.Service, ready bool) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{{Conditions: discoveryv1.EndpointConditions{Ready: &ready}}}}
	for _, p := range svc.Spec.Ports {
		if p.TargetPort.StrVal == "" {
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.TargetPort.IntVal, Protocol: &p.Protocol})
		}
	}
	return slice
}

func (in scene) pods() []*corev1.Pod {
	var pods []*corev1.Pod
	for _, p := range in.Pods {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: p.Name, Labels: p.Labels},
			Spec:       corev1.PodSpec{NodeName: p.Node},
			Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.244.0.7"}}},
		}
		if p.Ready {
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		pods = append(pods, pod)
	}
	return pods
}

func (in scene) external(served plan.EntryPoint) map[string]plan.External {
	out := map[string]plan.External{}
	for _, group := range served.Groups {
		if group.External == nil {
			continue
		}
		external := plan.ExternalOf(group.External, in.Service, in.Names[group.External.Hostname], in.Allowed)
		for i := range external.Endpoints {
			external.Endpoints[i].Ready = !slices.Contains(in.Failing, external.Endpoints[i].Address)
		}
		out[group.Name] = external
	}
	return out
}

func (in scene) nodes() plan.Nodes {
	nodes := plan.Nodes{}
	for _, name := range in.Nodes {
		nodes[name] = ptr.To(corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return nodes
}

func asYAML(t rapid.TB, value any) []byte {
	t.Helper()
	text, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
