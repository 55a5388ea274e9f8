package install

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// cluster is a real API server with nothing installed.
type cluster struct {
	*envtest.Environment
	client.Client // an administrator's
	// kubeconfig is the path of the administrator's kubeconfig.
	kubeconfig string
}

// bound is how long the API server may take to follow a change.
const bound = 20 * time.Second

var running []*envtest.Environment

func TestMain(m *testing.M) {
	code := m.Run()
	for _, environment := range running {
		if err := environment.Stop(); err != nil {
			code = 1
		}
	}
	os.Exit(code)
}

// theCluster is shared by the tests: whoever installs into it uninstalls, but for the CRD.
var theCluster = sync.OnceValues(func() (*cluster, error) {
	root, err := lab.ModuleRoot()
	if err != nil {
		return nil, err
	}
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		assets = filepath.Join(root, "bin", "k8s")
	}
	c := &cluster{Environment: &envtest.Environment{BinaryAssetsDirectory: assets}}
	c.ControlPlane.Etcd = &envtest.Etcd{}
	c.ControlPlane.Etcd.Configure().Set("unsafe-no-fsync", "true")
	config, err := c.Start()
	if err != nil {
		return nil, err
	}
	running = append(running, c.Environment)
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if c.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "install-")
	if err != nil {
		return nil, err
	}
	c.kubeconfig = filepath.Join(folder, "kubeconfig")
	return c, os.WriteFile(c.kubeconfig, c.KubeConfig, 0o600)
})

func requireCluster(t *testing.T) *cluster {
	t.Helper()
	c, err := theCluster()
	if err != nil {
		t.Fatalf("starting the API server (make tools builds it): %v", err)
	}
	return c
}

// apply applies objects as kubectl apply --server-side does, and deletes them after the test.
func (c *cluster) apply(t *testing.T, objects ...*unstructured.Unstructured) {
	t.Helper()
	for _, object := range objects {
		if err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object.DeepCopy()), client.FieldOwner("kubectl")); err != nil {
			t.Fatalf("applying %s %s: %v", object.GetKind(), object.GetName(), err)
		}
		t.Cleanup(func() { _ = c.Delete(context.Background(), object) })
	}
}

// eventually polls until check has no complaint.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(bound)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain until %s: %v", bound, what, err)
		}
		<-ticker.C
	}
}
