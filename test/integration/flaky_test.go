package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// flakyServer answers some requests to write in a namespace as an API server in
// trouble does, by chance from a seed.
type flakyServer struct {
	namespace string

	mu      sync.Mutex
	chance  *rand.Rand
	written int // requests to write that arrived, events apart
	refused map[int]int
}

func (f *flakyServer) refuse(at string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
	where, resource, _ := strings.Cut(at, "/")
	if where != f.namespace || resource == "events" {
		return next.RoundTrip(req)
	}
	f.mu.Lock()
	status := f.draw(req.Method)
	if status == nil {
		f.written++
	} else {
		f.refused[int(status.Code)]++
	}
	f.mu.Unlock()
	if status != nil {
		return answer(req, *status), nil
	}
	return next.RoundTrip(req)
}

// draw is what goes wrong: 30 % of what can be in conflict is, and 10 % of all requests are too many or
// fail inside.
func (f *flakyServer) draw(method string) *metav1.Status {
	switch n := f.chance.IntN(100); {
	case n < 30 && (method == http.MethodPut || method == http.MethodPatch):
		return new(apierrors.NewConflict(corev1.Resource("things"), "thing", fmt.Errorf("injected")).ErrStatus)
	case n >= 30 && n < 35:
		return new(apierrors.NewTooManyRequests("injected", 0).ErrStatus)
	case n >= 35 && n < 40:
		return new(apierrors.NewInternalError(fmt.Errorf("injected")).ErrStatus)
	}
	return nil
}

func (f *flakyServer) report() (written int, refused map[int]int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.written, maps.Clone(f.refused)
}

var _ = Describe("An API server that answers 30 % of the writes with a conflict, and 10 % with 429 or 500", func() {
	const groups = 12

	// live runs the life of some ServiceGroups in a namespace of its own, and returns the objects.
	live := func() map[string]string {
		pods := map[string]*corev1.Pod{}
		for _, name := range []string{"a", "b"} {
			pods[name] = runPod(podSpec{name: name, labels: map[string]string{"app": name}})
		}
		for i := range groups {
			create(numbered("web", i), "type: NodePort\n"+exposedGroups)
		}
		setReady(pods["a"], false)
		for i := range groups {
			spec := "sessionAffinity: ClientIP\n" + onlyA
			if i%2 == 0 {
				spec = "type: NodePort\n" + twoGroups
			}
			respec(parse(numbered("web", i), spec), spec)
		}
		setReady(pods["a"], true)
		found := map[string]string{}
		for i := range groups {
			sg := parse(numbered("web", i), twoGroups)
			Eventually(ready(sg)).Should(HavePrefix("True"))
			Eventually(accepted(sg)).Should(HavePrefix("True"))
		}
		quiet()
		for i := range groups {
			found[numbered("web", i)] = outcomeOf(Default, numbered("web", i))
		}
		return found
	}

	It("delays the same objects, at a bounded number of requests and events", func() {
		undisturbed := live()
		own := namespace
		defer func() { namespace = own }()
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "flaky-"}}
		Expect(k8s.Create(ctx, ns)).To(Succeed())
		namespace = ns.Name
		DeferCleanup(func() {
			Expect(k8s.DeleteAllOf(ctx, &v1alpha1.ServiceGroup{}, client.InNamespace(ns.Name))).To(Succeed())
		})

		server := &flakyServer{namespace: namespace, chance: rand.New(rand.NewPCG(3, 20)), refused: map[int]int{}}
		writes.intercept(server.refuse)
		Expect(live()).To(Equal(undisturbed))

		written, refused := server.report()
		total := written
		for _, n := range refused {
			total += n
		}
		Expect(refused).To(And(HaveKey(http.StatusConflict), HaveKey(http.StatusTooManyRequests), HaveKey(http.StatusInternalServerError)))
		// Each ServiceGroup has 3 Services, 4 slices and a status to write, and half of them once more; a
		// request is tried less than twice on average.
		Expect(total).To(BeNumerically("<=", groups*3*(3+4+1)), "requests to write, of which refused: %v", refused)
		Expect(written).To(BeNumerically("<=", groups*2*(3+4+1)))
		var events eventsv1.EventList
		Expect(k8s.List(ctx, &events, client.InNamespace(namespace))).To(Succeed())
		count := 0
		for _, e := range events.Items {
			count++
			if e.Series != nil {
				count += int(e.Series.Count)
			}
		}
		Expect(count).To(BeNumerically("<=", groups*3), "only conditions that change are events")
	})
})
