package integration

import (
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

var _ = Describe("On a cluster of one address family", func() {
	// move makes this test's cluster one of IPv4 only.
	move := func() {
		GinkgoHelper()
		single := &envtest.Environment{
			CRDDirectoryPaths:     []string{filepath.Join(moduleRoot, "config", "crd")},
			ErrorIfCRDPathMissing: true,
			BinaryAssetsDirectory: cluster.BinaryAssetsDirectory,
		}
		single.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16")
		single.ControlPlane.Etcd = &envtest.Etcd{}
		single.ControlPlane.Etcd.Configure().Set("unsafe-no-fsync", "true")
		config, err := single.Start()
		Expect(err).NotTo(HaveOccurred())
		dual, stopDual, dualNamespace := k8s, stopManager, namespace
		DeferCleanup(func() {
			stopManager()
			k8s, stopManager, namespace = dual, stopDual, dualNamespace
			Expect(single.Stop()).To(Succeed())
		})
		k8s, err = client.New(config, client.Options{Scheme: scheme})
		Expect(err).NotTo(HaveOccurred())
		Expect(k8s.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})).To(Succeed())
		startManager(config)
	}

	It("asking for the other one is a condition that names the field, and leaving it out heals", func() {
		move()
		const rest = oneGroup + "ports: [{port: 80}]"
		six := create("six", "ipFamilies: [IPv6]\n"+rest)
		dual := create("dual", "ipFamilyPolicy: RequireDualStack\n"+rest)
		preferred := create("preferred", "ipFamilyPolicy: PreferDualStack\n"+rest)
		const remedy = "leave it out to get what the cluster has, or ask who runs the cluster to add the family"
		Eventually(accepted(six)).Should(And(HavePrefix("False Refused: spec.ipFamilies[0]: Invalid value: \"IPv6\": "), HaveSuffix("; "+remedy)))
		Eventually(accepted(dual)).Should(And(HavePrefix("False Refused: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": "), HaveSuffix("; "+remedy)))
		Eventually(accepted(preferred)).Should(HavePrefix("True"))
		respec(six, rest)
		respec(dual, rest)
		Eventually(accepted(six)).Should(HavePrefix("True"))
		Eventually(accepted(dual)).Should(HavePrefix("True"))
		Expect(service(Default, "six").Spec.IPFamilies).To(Equal([]corev1.IPFamily{corev1.IPv4Protocol}))
	})
})
