package lab

import (
	"errors"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func TestControlPlane(t *testing.T) {
	network, _ := newTestNetwork(t)
	plane, err := StartControlPlane(t.Context(), network, ControlPlaneOptions{
		DualStack: true, NodePortRange: "30000-30001", AuditLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(plane.Dir()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the control plane's folder is still there: %v", err)
		}
	})
	t.Run("options", func(t *testing.T) { testServiceOptions(t, plane) })
	t.Run("RBAC holds for others", func(t *testing.T) { testKubeconfigAs(t, plane) })
	t.Run("kubectl and the CRD", func(t *testing.T) {
		kubectl, err := plane.Kubectl(t.Context(), "get", "svcg", "-A")
		if err != nil {
			t.Fatal(err)
		}
		if output, err := kubectl.CombinedOutput(); err != nil || !strings.Contains(string(output), "No resources found") {
			t.Errorf("kubectl says %q, %v", output, err)
		}
	})
	t.Run("outage", func(t *testing.T) {
		if err := errors.Join(plane.StopAPIServer(), plane.StartAPIServer(t.Context())); err != nil {
			t.Fatal(err)
		}
		if _, err := kubernetes.NewForConfigOrDie(plane.Config()).CoreV1().Services("default").
			Get(t.Context(), "test", metav1.GetOptions{}); err != nil {
			t.Errorf("after the outage: %v", err)
		}
	})
	if log, err := os.ReadFile(plane.AuditLogPath()); err != nil || !strings.Contains(string(log), `"verb":"create"`) {
		t.Errorf("the audit log has no write: %v", err)
	}
}

func testServiceOptions(t *testing.T, plane *ControlPlane) {
	policy := corev1.IPFamilyPolicyRequireDualStack
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "test"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: "10.99.99.99", IPFamilyPolicy: &policy,
			Ports: []corev1.ServicePort{{Port: 80, NodePort: 30001}},
		},
	}
	services := kubernetes.NewForConfigOrDie(plane.Config()).CoreV1().Services("default")
	created, err := services.Create(t.Context(), service, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if ips := created.Spec.ClusterIPs; len(ips) != 2 || ips[0] != "10.99.99.99" || !strings.HasPrefix(ips[1], "fd00:10:96::") {
		t.Errorf("the Service has addresses %v", ips)
	}
	service.Name, service.Spec.ClusterIP, service.Spec.Ports[0].NodePort = "out-of-range", "", 30002
	if _, err := services.Create(t.Context(), service, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a NodePort outside the range: got %v", err)
	}
}

func testKubeconfigAs(t *testing.T, plane *ControlPlane) {
	path, err := plane.KubeconfigAs("nobody", "system:serviceaccount:default:nobody", "system:serviceaccounts")
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = kubernetes.NewForConfigOrDie(config).CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("somebody without rights listed secrets: %v", err)
	}
}
