package convert_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/internal/convert"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

var update = flag.Bool("update", false, "write testdata/*.golden instead of comparing with it")

func read(t *testing.T, path string) *corev1.Service {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	svc := &corev1.Service{}
	if err := yaml.UnmarshalStrict(text, svc); err != nil {
		t.Fatal(err)
	}
	return svc
}

func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no Services: %v", err)
	}
	for _, input := range inputs {
		t.Run(filepath.Base(input), func(t *testing.T) {
			svc := read(t, input)
			before := svc.DeepCopy()
			result, err := convert.Service(svc)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(svc, before) {
				t.Error("the Service was changed")
			}
			if problems := plan.Validate(&result.Group.Spec); len(problems) > 0 {
				t.Errorf("the ServiceGroup has problems: %v", problems)
			}
			checkNothingLost(t, svc, result)
			got, err := yaml.Marshal(result)
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(input, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want, err := os.ReadFile(golden); err != nil || !bytes.Equal(got, want) {
				t.Errorf("differs from %s (go test ./internal/convert -update writes it anew), %v; got:\n%s", golden, err, got)
			}
		})
	}
}

// unsaid are the fields of a Service that a ServiceGroup leaves to others or has no word for, which is
// a warning.
var unsaid = map[string]string{
	"selector":       "it moves to the group",
	"externalIPs":    "warning",
	"loadBalancerIP": "warning",
}

// checkNothingLost compares the Service that the ServiceGroup asks for with the one there was, field
// by field: each is the same, or it is a default that is not said.
func checkNothingLost(t *testing.T, svc *corev1.Service, result convert.Result) {
	t.Helper()
	was, now := asMap(t, svc.Spec), asMap(t, plan.Service(plan.Desired{Group: result.Group}).Spec)
	for field, value := range was {
		switch {
		case reflect.DeepEqual(now[field], value) || unsaid[field] == "it moves to the group":
		case unsaid[field] == "warning" || field == "loadBalancerSourceRanges" && svc.Spec.Type != corev1.ServiceTypeLoadBalancer:
			if !strings.Contains(strings.Join(result.Warnings, "\n"), "spec."+field) {
				t.Errorf("%s is lost without a warning", field)
			}
		case now[field] == nil && isDefault(field, value):
		case field == "clusterIPs" && len(svc.Spec.ClusterIPs) == 1 && svc.Spec.ClusterIP == result.Group.Spec.ClusterIP:
		default:
			t.Errorf("%s was %v and becomes %v", field, value, now[field])
		}
	}
}

func isDefault(field string, value any) bool {
	return map[string]any{
		"internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true,
	}[field] == value
}

func asMap(t *testing.T, value any) map[string]any {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRefused(t *testing.T) {
	for want, svc := range map[string]*corev1.Service{
		"spec.selector is empty": {Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}},
		"metadata.ownerReferences: ServiceGroup web made this Service": {
			ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{Kind: "ServiceGroup", Name: "web", Controller: ptr.To(true)}}},
		},
	} {
		if _, err := convert.Service(svc); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
