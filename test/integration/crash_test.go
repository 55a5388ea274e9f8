package integration

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/controllers/servicegroup"
	"github.com/servicegroup-dev/servicegroup/internal/convert"
)

// crashStory is something that happens to the ServiceGroup "story", in a namespace of its own.
type crashStory struct {
	name string
	// writes is how many writes of the manager the story takes, at most.
	writes int
	// before is how it begins, and act what happens while the manager may crash.
	before, act func()
}

// crash is a story in which the manager crashes after some writes.
type crash struct {
	story     crashStory
	namespace string
	// after is the number of writes that arrive; 0 is all.
	after int

	seen    int
	crashed bool
	// held is the identity of the Service when the manager is down.
	held *corev1.Service
}

const exposedGroups = "exposeGroups: true\n" + twoGroups

// onlyA is exposedGroups without the group b.
const onlyA = "exposeGroups: true\n" + oneGroup + "ports: [{name: http, port: 80}]"

func crashStories() []crashStory {
	begin := func(spec string) func() {
		return func() {
			sg := create("story", spec)
			Eventually(accepted(sg)).Should(HavePrefix("True"))
		}
	}
	change := func(spec string) func() {
		return func() { respec(parse("story", spec), spec) }
	}
	return []crashStory{
		{"creation", 9, func() {}, func() { create("story", "type: NodePort\n"+exposedGroups) }},
		{"change of the type to NodePort", 5, begin(twoGroups), change("type: NodePort\n" + twoGroups)},
		{"change of the type from NodePort to ExternalName", 6, begin("type: NodePort\n" + twoGroups), change("type: ExternalName\nexternalName: example.com\n")},
		{"change of the ports", 6, begin("type: NodePort\n" + oneGroup + "ports: [{name: http, port: 80}, {name: more, port: 81}]"),
			change("type: NodePort\n" + oneGroup + "ports: [{name: http, port: 80, targetPort: 8080}]")},
		{"removal of a group", 8, begin("type: NodePort\n" + exposedGroups), change("type: NodePort\n" + onlyA)},
		{"adoption", 9, func() { foreignService("story") }, func() {
			result, err := convert.Service(service(Default, "story"))
			Expect(err).NotTo(HaveOccurred())
			Expect(k8s.Create(ctx, result.Group)).To(Succeed())
		}},
	}
}

// foreignService is a Service with the slices that kube-controller-manager made for it.
func foreignService(name string) {
	GinkgoHelper()
	Expect(k8s.Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"team": "blue"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Selector: map[string]string{"app": "a"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}},
		},
	})).To(Succeed())
	Expect(k8s.Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: name + "-", Namespace: namespace,
			Labels: map[string]string{discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io"},
		},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.1"}}},
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](80)}},
	})).To(Succeed())
}

// All stories, each once undisturbed and once for every number of writes after which the manager can
// crash, run at the same time, each in its namespace: writes to it arrive until its number is reached,
// and none afterwards, until a manager starts anew.
var _ = Describe("A crash after any write", Ordered, func() {
	start := func() {
		startManager(managerConfig, func(o *servicegroup.Options) {
			o.AdoptionLead, o.AdoptionGrace = 100*time.Millisecond, 300*time.Millisecond
		})
	}
	BeforeAll(func() {
		stopManager()
		start()
	})
	AfterAll(func() {
		stopManager()
		startManager(managerConfig)
	})

	It("converges to the same objects, none twice, none left over, at the same addresses", func() {
		crashes := prepareCrashes()
		quiet()
		refuseAfterCrash(crashes)
		each(crashes, func(c *crash) { c.story.act() })
		each(crashes, func(c *crash) {
			if c.after == 0 {
				Eventually(func(g Gomega) { g.Expect(outcome(g)).To(ContainSubstring("Ready=True")) }).Should(Succeed())
			}
		})
		quiet()
		stopManager()
		each(crashes, func(c *crash) { c.held = heldService() })
		coverEveryWrite(crashes)

		writes.intercept(nil)
		start()
		undisturbed := map[string]string{}
		each(crashes, func(c *crash) {
			if c.after == 0 {
				undisturbed[c.story.name] = outcome(Default)
			}
			what := fmt.Sprintf("%s, crash after write %d", c.story.name, c.after)
			Eventually(func(g Gomega) string { return outcome(g) }).Should(Equal(undisturbed[c.story.name]), what)
			sameAddresses(c.held, what)
		})
		quiet()
		each(crashes, func(c *crash) { Expect(outcome(Default)).To(Equal(undisturbed[c.story.name])) })
		each(crashes, func(*crash) {
			Expect(k8s.DeleteAllOf(ctx, &v1alpha1.ServiceGroup{}, client.InNamespace(namespace))).To(Succeed())
		})
	})
})

// each runs something for every crash, in its namespace.
func each(crashes []*crash, do func(*crash)) {
	GinkgoHelper()
	own := namespace
	defer func() { namespace = own }()
	for _, c := range crashes {
		namespace = c.namespace
		do(c)
	}
}

func prepareCrashes() []*crash {
	GinkgoHelper()
	var crashes []*crash
	for _, story := range crashStories() {
		for after := range story.writes + 2 {
			crashes = append(crashes, &crash{story: story, after: after})
		}
	}
	for _, c := range crashes {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "crash-"}}
		Expect(k8s.Create(ctx, ns)).To(Succeed())
		c.namespace = ns.Name
	}
	each(crashes, func(c *crash) {
		runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		runPod(podSpec{name: "b", labels: map[string]string{"app": "b"}})
		c.story.before()
	})
	return crashes
}

// refuseAfterCrash lets as many writes arrive in each namespace as its crash says. Events are not what
// a crash can spoil, and a dry run writes nothing.
func refuseAfterCrash(crashes []*crash) {
	var mu sync.Mutex
	byNamespace := map[string]*crash{}
	for _, c := range crashes {
		byNamespace[c.namespace] = c
	}
	writes.intercept(func(at string, req *http.Request, next http.RoundTripper) (*http.Response, error) {
		where, resource, _ := strings.Cut(at, "/")
		mu.Lock()
		c := byNamespace[where]
		if c != nil && resource != "events" && req.URL.Query().Get("dryRun") == "" {
			c.seen++
			c.crashed = c.crashed || c.after > 0 && c.seen > c.after
		}
		down := c != nil && c.crashed
		mu.Unlock()
		if down {
			return nil, errors.New("injected: the manager has crashed")
		}
		return next.RoundTrip(req)
	})
}

// coverEveryWrite checks that the crashes of each story come after its first write, its second and so on
// to its last.
func coverEveryWrite(crashes []*crash) {
	GinkgoHelper()
	took := map[string]int{}
	for _, c := range crashes {
		if c.after == 0 {
			took[c.story.name] = c.seen
			Expect(c.seen).To(And(BeNumerically(">", 1), BeNumerically("<=", c.story.writes)), "writes of the "+c.story.name)
			continue
		}
		if c.after < took[c.story.name] {
			Expect(c.crashed).To(BeTrue(), "%s: no crash after write %d", c.story.name, c.after)
		}
	}
}

// heldService is the Service as the crash left it; nil if it was not created yet.
func heldService() *corev1.Service {
	GinkgoHelper()
	svc := &corev1.Service{}
	if err := k8s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "story"}, svc); client.IgnoreNotFound(err) == nil && err != nil {
		return nil
	}
	Expect(svc.UID).NotTo(BeEmpty())
	return svc
}

// sameAddresses checks that a Service is still the one it was, with the addresses that it still has.
func sameAddresses(before *corev1.Service, what string) {
	GinkgoHelper()
	if before == nil {
		return
	}
	now := service(Default, "story")
	Expect(now.UID).To(Equal(before.UID), what)
	if now.Spec.ClusterIP != "" && before.Spec.ClusterIP != "" {
		Expect(now.Spec.ClusterIPs).To(Equal(before.Spec.ClusterIPs), what)
	}
	for _, p := range now.Spec.Ports {
		for _, q := range before.Spec.Ports {
			if p.Port == q.Port && p.Protocol == q.Protocol && p.NodePort != 0 && q.NodePort != 0 {
				Expect(p.NodePort).To(Equal(q.NodePort), what)
			}
		}
	}
}

// allocated are the numbers that differ from one ServiceGroup to the next.
var allocated = regexp.MustCompile(`\b3\d{4}\b`)

// outcome describes everything there is of the ServiceGroup "story".
func outcome(g Gomega) string { return outcomeOf(g, "story") }

// outcomeOf describes everything there is of a ServiceGroup, without names and numbers that the API
// server made up.
func outcomeOf(g Gomega, name string) string {
	var lines []string
	var services corev1.ServiceList
	g.Expect(k8s.List(ctx, &services, client.InNamespace(namespace))).To(Succeed())
	for _, svc := range services.Items {
		owner := metav1.GetControllerOf(&svc)
		g.Expect(owner).NotTo(BeNil())
		if owner.Name != name {
			continue
		}
		delete(svc.Annotations, v1alpha1.AnnotationRevision) // counts the specs that were accepted on the way
		lines = append(lines, fmt.Sprint("service ", svc.Name, svc.Spec.Type, svc.Labels, svc.Annotations, svc.Spec.Ports, svc.Spec.Selector, owner.Name))
		for _, slice := range slicesOf(g, svc.Name) {
			line := fmt.Sprint("slice of ", svc.Name, slice.AddressType, slice.Labels)
			for _, p := range slice.Ports {
				line += fmt.Sprint(" ", *p.Name, *p.Port, *p.Protocol)
			}
			for _, e := range slice.Endpoints {
				g.Expect(e.TargetRef).NotTo(BeNil(), "an endpoint that is not ours")
				line += " " + e.TargetRef.Name + " " + flags(e.Conditions)
			}
			lines = append(lines, line)
		}
	}
	sg := &v1alpha1.ServiceGroup{}
	g.Expect(k8s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, sg)).To(Succeed())
	for _, c := range sg.Status.Conditions {
		lines = append(lines, fmt.Sprintf("condition %s=%s %s: %s (%t)", c.Type, c.Status, c.Reason, c.Message, c.ObservedGeneration == sg.Generation))
	}
	lines = append(lines, fmt.Sprint("status ", sg.Status.Groups, sg.Status.PortSummary, sg.Status.ClusterIP == ""))
	slices.Sort(lines)
	return allocated.ReplaceAllString(strings.Join(lines, "\n"), "N")
}
