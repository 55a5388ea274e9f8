package integration

import (
	"net/http"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
)

// neighbour makes a second namespace with a ServiceGroup, to be created when the caller says so.
func neighbour() (name string, create func()) {
	GinkgoHelper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "neighbour-"}}
	Expect(k8s.Create(ctx, ns)).To(Succeed())
	DeferCleanup(func() {
		Expect(k8s.DeleteAllOf(ctx, &v1alpha1.ServiceGroup{}, client.InNamespace(ns.Name))).To(Succeed())
	})
	sg := parse("quiet", `{groups: [{name: web, selector: {matchLabels: {app: web}}}], ports: [{port: 80}]}`)
	sg.Namespace = ns.Name
	return ns.Name, func() { Expect(k8s.Create(ctx, sg)).To(Succeed()) }
}

// restartWith has the manager of this test run with other options.
func restartWith(changes ...func(*servicegroup.Options)) {
	GinkgoHelper()
	stopManager()
	startManager(managerConfig, changes...)
	DeferCleanup(func() {
		stopManager()
		startManager(managerConfig)
	})
}

var _ = Describe("A neighbour", func() {
	It("waits for what is running, and not for what waits", func() {
		const workers, busy = 4, 40
		restartWith(func(o *servicegroup.Options) { o.Concurrency = workers })
		quiet, create := neighbour()
		var mu sync.Mutex
		var order []string
		arrived, release := make(chan string, busy), make(chan struct{})
		writes.intercept(func(at string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
			if ns, isService := strings.CutSuffix(at, "/services"); isService && (ns == namespace || ns == quiet) {
				mu.Lock()
				order = append(order, ns)
				mu.Unlock()
				if ns == namespace {
					arrived <- ns
					<-release
				}
			}
			return next.RoundTrip(req)
		})
		DeferCleanup(sync.OnceFunc(func() { close(release) }))
		for i := range busy {
			createNumbered(i)
		}
		for range workers - 1 {
			Eventually(arrived).Should(Receive())
		}
		Consistently(arrived).ShouldNot(Receive(), "the last worker is not kept")
		create()
		Eventually(func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(order) == workers && order[workers-1] == quiet
		}).Should(BeTrue(), "the neighbour waits while no other reconciliation ends")
	})
})

func createNumbered(i int) {
	GinkgoHelper()
	create(numbered("busy", i), `{groups: [{name: web, selector: {matchLabels: {app: web}}}], ports: [{port: 80}]}`)
}

var _ = Describe("The writes of a namespace", func() {
	It("are its own budget, and what is over follows", func() {
		const burst = 25
		restartWith(func(o *servicegroup.Options) { o.NamespaceWriteQPS, o.NamespaceWriteBurst = 0.001, burst })
		quiet, createQuiet := neighbour()
		writes.reset()
		sum := func(of string) (n int) {
			for _, each := range writes.in(of) {
				n += each
			}
			return n
		}
		spec := "ports: [{port: 80}]\nexposeGroups: true\ngroups:\n"
		for i := range 15 {
			spec += numbered("- {name: g", i) + ", selector: {matchLabels: {app: web}}}\n"
		}
		fanOut := create("fan-out", spec)
		runPod(podSpec{name: "pod", labels: map[string]string{"app": "web"}})
		Eventually(func() int { return sum(namespace) }).Should(Equal(burst))
		createQuiet()
		Eventually(func() map[string]int { return writes.in(quiet) }).Should(Equal(map[string]int{
			"services": 1, "controllerrevisions": 1, "endpointslices": 1, "servicegroups/status": 1,
		}))
		Expect(sum(namespace)).To(Equal(burst))

		stopManager()
		startManager(managerConfig)
		Eventually(ready(fanOut)).Should(HavePrefix("True"))
		Expect(writes.in(namespace)).To(HaveKeyWithValue("services", 16), "a Service was written twice")
	})
})
