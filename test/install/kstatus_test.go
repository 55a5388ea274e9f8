package install

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// TestWhatKstatusSays: what helm --wait, Flux and others make of a ServiceGroup at each point of its life. The
// operator's part is played by the room that decides the status.
func TestWhatKstatusSays(t *testing.T) {
	c := requireCluster(t)
	c.installCRD(t)
	sg := &v1alpha1.ServiceGroup{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "kstatus"},
		Spec: v1alpha1.ServiceGroupSpec{
			Groups: []v1alpha1.Group{{Name: "web", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}},
			Ports:  []v1alpha1.Port{{Name: "http", Port: 80}},
		},
	}
	eventually(t, "ServiceGroups can be created", func() error { return c.Create(t.Context(), sg) })
	c.expectKstatus(t, sg, "nobody looked at it yet", status.InProgressStatus)

	served, err := plan.Resolve(&sg.Spec)
	if err != nil {
		t.Fatal(err)
	}
	service := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.7", ClusterIPs: []string{"10.0.0.7"}}}
	ready := []plan.Membership{{Group: "web", Matched: 1, Ready: 1}}
	step := func(what string, o plan.Outcome, want status.Status) {
		t.Helper()
		o.Group, o.Service, o.Entry = sg, service, served
		sg.Status = plan.ReportOf(o).Status
		for i := range sg.Status.Conditions {
			sg.Status.Conditions[i].LastTransitionTime = metav1.Now()
		}
		if err := c.Status().Update(t.Context(), sg); err != nil {
			t.Fatal(err)
		}
		c.expectKstatus(t, sg, what, want)
	}
	slices := []*discoveryv1.EndpointSlice{{
		Endpoints: []discoveryv1.Endpoint{{Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}}},
		Ports:     []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](80)}},
	}}
	pending := &plan.Programming{Agents: 2, Behind: []string{"node2"}}
	done := &plan.Programming{Agents: 2}
	step("one agent is behind", plan.Outcome{Members: ready, Slices: slices, Programming: pending}, status.InProgressStatus)
	step("no pod is ready", plan.Outcome{Members: ready, Programming: done}, status.InProgressStatus)
	step("served", plan.Outcome{Members: ready, Slices: slices, Programming: done}, status.CurrentStatus)

	sg.Spec.Type = corev1.ServiceTypeNodePort
	if err := c.Update(t.Context(), sg); err != nil {
		t.Fatal(err)
	}
	c.expectKstatus(t, sg, "the newest spec was not looked at yet", status.InProgressStatus)
	refusal := &plan.Refusal{Reason: v1alpha1.ReasonNodePortUnavailable, Message: "held"}
	step("it is refused, and the one before is served", plan.Outcome{Members: ready, Slices: slices, Programming: done, Refusal: refusal}, status.FailedStatus)
	step("served again", plan.Outcome{Members: ready, Slices: slices, Programming: done}, status.CurrentStatus)
}

func (c *cluster) expectKstatus(t *testing.T, sg *v1alpha1.ServiceGroup, what string, want status.Status) {
	t.Helper()
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ServiceGroup"))
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sg), object); err != nil {
		t.Fatal(err)
	}
	got, err := status.Compute(object)
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != want {
		t.Errorf("%s: kstatus says %s (%s), want %s", what, got.Status, got.Message, want)
	}
}

// installCRD installs the CRD of this tree, which goes with the test.
func (c *cluster) installCRD(t *testing.T) {
	t.Helper()
	root, err := lab.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "config", "crd", "net.servicegroup.dev_servicegroups.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	crd := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &crd.Object); err != nil {
		t.Fatal(err)
	}
	c.apply(t, crd)
	t.Cleanup(func() {
		_ = c.Delete(context.Background(), crd)
		eventually(t, "the CRD is gone", func() error {
			err := c.Get(context.Background(), client.ObjectKeyFromObject(crd), crd.DeepCopy())
			if apierrors.IsNotFound(err) {
				return nil
			}
			return errors.Join(errors.New("it is there"), err)
		})
	})
}
