package integration

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
)

const (
	moduleRoot = "../.."
	// countRefresh is how late pod counts in status may be in this suite.
	countRefresh = 300 * time.Millisecond
	// retryMin and retryMax bound the wait between two tries of a refused Service in this suite.
	retryMin, retryMax = 100 * time.Millisecond, 500 * time.Millisecond
)

var (
	cluster *envtest.Environment
	scheme  = runtime.NewScheme()
	// k8s is the user and the kubelet: it may do anything and reads past all caches.
	k8s client.Client
	// writes are those of the manager.
	writes = &writeCounter{}
	// managerConfig is the manager's.
	managerConfig *rest.Config
)

func TestIntegration(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(20 * time.Second)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	SetDefaultConsistentlyDuration(300 * time.Millisecond)
	SetDefaultConsistentlyPollingInterval(20 * time.Millisecond)
	RunSpecs(t, "Operator")
}

var _ = BeforeSuite(func() {
	log.SetLogger(GinkgoLogr)
	Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())

	config := startCluster()
	var err error
	k8s, err = client.New(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	managerConfig = addManagerUser(config)
	outside.startDNS()
	startManager(managerConfig)
	DeferCleanup(func() { stopManager() })
})

// startCluster starts etcd and kube-apiserver, dual-stack, and checking what blockOwnerDeletion
// needs.
func startCluster() *rest.Config {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		var err error
		assets, err = filepath.Abs(filepath.Join(moduleRoot, "bin", "k8s"))
		Expect(err).NotTo(HaveOccurred())
	}
	cluster = &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join(moduleRoot, "config", "crd")},
		ErrorIfCRDPathMissing: true,
		BinaryAssetsDirectory: assets,
	}
	server := cluster.ControlPlane.GetAPIServer().Configure()
	server.Set("service-cluster-ip-range", "10.0.0.0/16,fd00:10::/112")
	server.Set("enable-admission-plugins", "OwnerReferencesPermissionEnforcement")
	server.Set("delete-collection-workers", "16") // else it deletes 10,000 pods one by one
	cluster.ControlPlane.Etcd = &envtest.Etcd{}
	cluster.ControlPlane.Etcd.Configure().Set("unsafe-no-fsync", "true")
	DeferCleanup(func() { Expect(cluster.Stop()).To(Succeed()) }) // also when the CRD is refused
	config, err := cluster.Start()
	Expect(err).NotTo(HaveOccurred(), "starting etcd and kube-apiserver from %s (make tools builds them)", assets)
	config.QPS, config.Burst = -1, -1
	return config
}

// addManagerUser returns the configuration of a user who may do what config/rbac/role.yaml says.
func addManagerUser(admin *rest.Config) *rest.Config {
	text, err := os.ReadFile(filepath.Join(moduleRoot, "config", "rbac", "role.yaml"))
	Expect(err).NotTo(HaveOccurred())
	role := &rbacv1.ClusterRole{}
	Expect(yaml.UnmarshalStrict(text, role)).To(Succeed())
	Expect(k8s.Create(context.Background(), role)).To(Succeed())
	Expect(k8s.Create(context.Background(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "manager"}},
	})).To(Succeed())
	user, err := cluster.AddUser(envtest.User{Name: "manager"}, admin)
	Expect(err).NotTo(HaveOccurred())
	config := user.Config()
	config.QPS, config.Burst = -1, -1
	config.WrapTransport = writes.wrap
	return config
}

// stopManager stops the manager that runs.
var stopManager func()

// startManager starts a manager with empty caches and no memory, and options changed as the test needs.
func startManager(config *rest.Config, changes ...func(*servicegroup.Options)) {
	GinkgoHelper()
	startManagerOn(config, servicegroup.CacheOptions(), changes...)
}

// startManagerOn starts a manager with a cache of these options.
func startManagerOn(config *rest.Config, cached cache.Options, changes ...func(*servicegroup.Options)) {
	GinkgoHelper()
	ctx, stop := context.WithCancel(context.Background())
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Cache: cached,
		Metrics: metricsserver.Options{BindAddress: "0"},
		// One after the other, managers of one process have controllers of one name.
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)},
	})
	Expect(err).NotTo(HaveOccurred())
	options := servicegroup.Options{
		CountRefresh: countRefresh, RetryMin: retryMin, RetryMax: retryMax,
		ExternalRanges: externalRanges, Probe: outside.probeOptions(),
	}
	for _, change := range changes {
		change(&options)
	}
	Expect(servicegroup.Setup(ctx, mgr, options)).To(Succeed())
	stopped := make(chan error, 1)
	go func() { stopped <- mgr.Start(ctx) }()
	stopManager = sync.OnceFunc(func() {
		stop()
		Eventually(stopped).Should(Receive(Succeed()))
	})
	Expect(mgr.GetCache().WaitForCacheSync(ctx)).To(BeTrue())
}
