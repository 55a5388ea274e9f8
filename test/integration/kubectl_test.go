package integration

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

var _ = Describe("kubectl", func() {
	const rest = oneGroup + "ports: [{name: http, port: 80}]"
	var run func(input string, args ...string) (string, error)

	BeforeEach(func() {
		user, err := cluster.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, nil)
		Expect(err).NotTo(HaveOccurred())
		tool, err := user.Kubectl()
		Expect(err).NotTo(HaveOccurred())
		tool.Opts = append(tool.Opts, "--namespace="+namespace)
		run = func(input string, args ...string) (string, error) {
			if input != "" {
				file := filepath.Join(GinkgoT().TempDir(), "manifest.yaml")
				Expect(os.WriteFile(file, []byte(input), 0o600)).To(Succeed())
				args = append(args, "--filename="+file)
			}
			out, errs, err := tool.Run(args...)
			text, readErr := io.ReadAll(io.MultiReader(out, errs))
			Expect(readErr).NotTo(HaveOccurred())
			return string(text), err
		}
	})

	// table is what kubectl get shows, line by line without the age.
	table := func(args ...string) func(Gomega) []string {
		return func(g Gomega) []string {
			out, err := run("", append([]string{"get", "svcg"}, args...)...)
			g.Expect(err).NotTo(HaveOccurred(), out)
			var lines []string
			for line := range strings.Lines(out) {
				fields := strings.Fields(line)
				lines = append(lines, strings.Join(fields[:len(fields)-1], " "))
			}
			return lines
		}
	}

	It("get shows the address from outside, and by type those asked for", func() {
		runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		inside := create("inside", rest)
		lb := create("lb", "type: LoadBalancer\nallocateLoadBalancerNodePorts: false\n"+rest)
		create("name", "type: ExternalName\nexternalName: db.example.com")
		Eventually(ready(inside)).Should(HavePrefix("True"))
		Eventually(ready(lb)).Should(HavePrefix("True"))
		ip := func(name string) string { return service(Default, name).Spec.ClusterIP }
		Eventually(table()).Should(Equal([]string{
			"NAME TYPE CLUSTER-IP EXTERNAL-IP PORTS GROUPS",
			"inside ClusterIP " + ip("inside") + " 80/TCP 1/1",
			"lb LoadBalancer " + ip("lb") + " <pending> 80/TCP 1/1",
			"name ExternalName db.example.com",
		}))
		svc := service(Default, "lb")
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.7"}, {Hostname: "lb.example.com"}}
		Expect(k8s.Status().Update(ctx, svc)).To(Succeed())
		Eventually(table("--field-selector=spec.type=LoadBalancer", "--output=wide")).Should(Equal([]string{
			"NAME TYPE CLUSTER-IP EXTERNAL-IP PORTS GROUPS ACCEPTED PROGRAMMED READY",
			"lb LoadBalancer " + ip("lb") + " 198.51.100.7,lb.example.com 80/TCP 1/1 Accepted True",
		}))
	})

	It("apply --server-side lets one manager add a group to the entry point of another", func() {
		manifest := func(spec string) string {
			return "apiVersion: net.servicegroup.dev/v1alpha1\nkind: ServiceGroup\nmetadata: {name: web}\nspec:\n" + spec
		}
		apply := func(who, spec string) (string, error) {
			return run(manifest(spec), "apply", "--server-side", "--field-manager="+who)
		}
		const (
			base   = "  groups: [{name: a, selector: {matchLabels: {app: a}}}]\n  ports: [{name: http, port: 80, backends: [{group: a}]}]\n"
			canary = "  groups: [{name: b, selector: {matchLabels: {app: b}}}]\n  ports: [{port: 80, backends: [{group: b, targetPort: 8080}]}]\n"
		)
		podA := runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		podB := runPod(podSpec{name: "b", labels: map[string]string{"app": "b"}})
		for _, step := range []struct {
			who, spec string
			want      []string
		}{
			{"base", base, []string{at("a/http", podA, 80, "rs")}},
			{"canary", canary, []string{at("a/http", podA, 80, "rs"), at("b/http", podB, 8080, "rs")}},
			{"base", base, []string{at("a/http", podA, 80, "rs"), at("b/http", podB, 8080, "rs")}},
		} {
			out, err := apply(step.who, step.spec)
			Expect(err).NotTo(HaveOccurred(), out)
			Eventually(endpointsOf("web")).Should(ConsistOf(step.want))
		}
		out, err := apply("other", strings.ReplaceAll(base, "app: a", "app: c"))
		Expect(err).To(HaveOccurred())
		Expect(out).To(And(ContainSubstring(`conflict with "base"`), ContainSubstring(`.spec.groups[name="a"].selector`)))
		out, err = apply("base", strings.ReplaceAll(base, "backends", "backend"))
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring(`.spec.ports[port=80,protocol="TCP"].backend: field not declared in schema`))
	})

	It("patch --subresource=status does no lasting harm", func() {
		sg := create("web", rest)
		Eventually(accepted(sg)).Should(HavePrefix("True"))
		quiet()
		before := statusOf(sg)(Default)
		out, err := run("", "patch", "svcg", "web", "--subresource=status", "--type=merge", `--patch={"status":null}`)
		Expect(err).NotTo(HaveOccurred(), out)
		Eventually(func(g Gomega) v1alpha1.ServiceGroupStatus {
			now := statusOf(sg)(g)
			for i := range now.Conditions {
				now.Conditions[i].LastTransitionTime = before.Conditions[i].LastTransitionTime
			}
			return now
		}).Should(Equal(before))
	})

	It("wait waits for the newest spec", func() {
		runPod(podSpec{name: "a", labels: map[string]string{"app": "a"}})
		sg := create("web", rest)
		out, err := run("", "wait", "--for=condition=Ready", "svcg/web", "--timeout=20s")
		Expect(err).NotTo(HaveOccurred(), out)
		stopManager() // so that nobody looks at the change
		DeferCleanup(func() { startManager(managerConfig) })
		Expect(k8s.Patch(ctx, sg, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"groups":[{"name":"a","selector":{"matchLabels":{"app":"none"}}}]}}`)))).To(Succeed())
		out, err = run("", "wait", "--for=condition=Ready", "svcg/web", "--timeout=1s")
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring("timed out waiting"))
	})
})
