package integration

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// deafManager stands between a manager and the API server and can take away all that tells the manager of
// changes: its watches end, and for a while it gets no new ones and no lists.
type deafManager struct {
	mu      sync.Mutex
	deaf    bool
	refused map[string]bool
	watches []io.Closer
}

func (d *deafManager) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		right := rightFor(req)
		verb, _, _ := strings.Cut(right, " ")
		if verb != "watch" && verb != "list" {
			return next.RoundTrip(req)
		}
		d.mu.Lock()
		deaf := d.deaf
		if deaf {
			d.refused[right] = true
		}
		d.mu.Unlock()
		if deaf && verb == "watch" {
			return answer(req, apierrors.NewResourceExpired("too old resource version").ErrStatus), nil
		}
		if deaf {
			return answer(req, apierrors.NewInternalError(fmt.Errorf("injected")).ErrStatus), nil
		}
		resp, err := next.RoundTrip(req)
		if err == nil && verb == "watch" {
			d.mu.Lock()
			d.watches = append(d.watches, resp.Body)
			d.mu.Unlock()
		}
		return resp, err
	})
}

// goDeaf ends all watches and lets none begin.
func (d *deafManager) goDeaf() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deaf, d.refused = true, map[string]bool{}
	for _, watch := range d.watches {
		_ = watch.Close() // the manager may have closed it
	}
	d.watches = nil
}

// hear ends it.
func (d *deafManager) hear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deaf = false
}

// asked are what a deaf manager has asked in vain.
func (d *deafManager) asked() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]bool{}
	for right := range d.refused {
		out[right] = true
	}
	return out
}

var _ = Describe("A manager that loses its watches", func() {
	It("catches up with all that it missed", func() {
		manager := &deafManager{}
		config := rest.CopyConfig(managerConfig)
		config.Wrap(manager.wrap)
		stopManager()
		startManager(config)
		DeferCleanup(func() {
			stopManager()
			startManager(managerConfig)
		})

		pods := map[string]*corev1.Pod{}
		for _, name := range []string{"stays", "turns", "leaves"} {
			pods[name] = runPod(podSpec{name: name, labels: map[string]string{"app": "a"}})
		}
		busy, leaving := create("busy", twoGroups), create("leaving", twoGroups)
		for _, sg := range []*v1alpha1.ServiceGroup{busy, leaving} {
			Eventually(ready(sg)).Should(HavePrefix("True"))
		}
		quiet()
		before := service(Default, "busy")

		manager.goDeaf()
		for _, resource := range []string{"pods", "services", "discovery.k8s.io/endpointslices", "net.servicegroup.dev/servicegroups"} {
			Eventually(manager.asked).Should(HaveKey("watch "+resource), "the manager has not noticed")
		}
		setReady(pods["turns"], false)
		Expect(k8s.Delete(ctx, pods["leaves"], client.GracePeriodSeconds(0))).To(Succeed())
		pods["comes"] = runPod(podSpec{name: "comes", labels: map[string]string{"app": "b"}})
		edit(service(Default, "busy"), func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "a"} })
		taken := slicesOf(Default, "busy")[0]
		Expect(k8s.Delete(ctx, &taken)).To(Succeed())
		Expect(k8s.Delete(ctx, leaving)).To(Succeed())
		coming := create("coming", onlyA)
		writes.reset()
		Consistently(func() map[string]int { return writes.in(namespace) }).Should(BeEmpty(), "it heard of something")

		manager.hear()
		Eventually(endpointsOf("busy")).Should(ConsistOf(
			at("a/http", pods["stays"], 80, "rs"), at("a/http", pods["turns"], 80, ""), at("b/http", pods["comes"], 80, "rs")))
		Eventually(func(g Gomega) map[string]string { return service(g, "busy").Spec.Selector }).Should(BeEmpty())
		Eventually(ready(coming)).Should(HavePrefix("True"))
		quiet()
		Expect(service(Default, "busy").UID).To(Equal(before.UID))
		Expect(slicesOf(Default, "busy")).To(HaveLen(2), "one for each group")
		Expect(statusOf(busy)(Default).Groups).To(ConsistOf(
			v1alpha1.GroupStatus{Name: "a", Matched: 2, Ready: 1}, v1alpha1.GroupStatus{Name: "b", Matched: 1, Ready: 1}))
	})
})
