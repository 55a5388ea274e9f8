package plugin

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// shop is the ServiceGroup that most tests look at: two groups behind two ports, with a pod that is not
// ready and one without the named port.
const shop = `apiVersion: net.servicegroup.dev/v1alpha1
kind: ServiceGroup
metadata: {name: shop, namespace: store, labels: {team: shop}}
spec:
  type: NodePort
  groups:
  - name: web
    selector: {matchLabels: {app: web}}
  - name: api
    selector: {matchExpressions: [{key: app, operator: In, values: [api, api-next]}]}
  ports:
  - {name: http, port: 80, targetPort: 8080, backends: [{group: web}]}
  - {name: rpc, port: 9000, targetPort: rpc, backends: [{group: api}]}
`

// store is the namespace with the shop and its pods.
type store struct {
	*lab.Lab
	web, api []*lab.Pod
	visitor  *lab.Pod
	vip      string
	nodePort int
}

var theStore = sync.OnceValues(func() (*store, error) {
	ctx := context.Background()
	l, err := theLab()
	if err != nil {
		return nil, err
	}
	s := &store{Lab: l}
	label := func(app string) map[string]string { return map[string]string{"app": app} }
	port := func(name string, number int32) []lab.Port { return []lab.Port{{Name: name, Number: number}} }
	if s.web, err = l.RunPods(ctx, lab.PodSpec{Namespace: "store", Name: "web", Labels: label("web"), Ports: port("http", 8080)}, 3); err != nil {
		return nil, err
	}
	if err := s.web[2].SetReady(ctx, false); err != nil {
		return nil, err
	}
	if s.api, err = l.RunPods(ctx, lab.PodSpec{Namespace: "store", Name: "api", Labels: label("api"), Ports: port("rpc", 9090)}, 1); err != nil {
		return nil, err
	}
	if _, err := l.RunPod(ctx, lab.PodSpec{Namespace: "store", Name: "api-next", Labels: label("api-next"), Ports: port("grpc", 9090)}); err != nil {
		return nil, err
	}
	s.visitor, err = l.RunPod(ctx, lab.PodSpec{Namespace: "store", Name: "visitor", Node: "node1"})
	return s, err
})

// requireStore has the shop served and programmed.
func requireStore(t *testing.T) *store {
	t.Helper()
	l := requireLab(t)
	s, err := theStore()
	if err != nil {
		t.Fatal(err)
	}
	must(t, l, shop, "apply", "-f", "-")
	must(t, l, "", "wait", "-n", "store", "svcg/shop", "--for=condition=Programmed", "--timeout=20s")
	var service struct {
		Spec struct {
			ClusterIP string
			Ports     []struct{ NodePort int }
		}
	}
	if err := json.Unmarshal([]byte(must(t, l, "", "get", "-n", "store", "service", "shop", "-o", "json")), &service); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agents", func() error {
		return wants(kubectl(t, l, "", "servicegroup", "-n", "store", "status", "shop").out, "2 of 2 nodes programmed")
	})
	s.vip, s.nodePort = service.Spec.ClusterIP, service.Spec.Ports[0].NodePort
	return s
}

// plain has a Service that no ServiceGroup made, for convert.
func (s *store) plain(t *testing.T) {
	t.Helper()
	const plain = "{apiVersion: v1, kind: Service, metadata: {name: plain, namespace: store}, spec: {selector: {app: web}, ports: [{port: 80}]}}"
	must(t, s.Lab, plain, "apply", "-f", "-")
}

// onTerminal runs the plugin in front of a terminal, with variables of the environment, and returns what is seen there.
func (s *store) onTerminal(t *testing.T, environment string, args ...string) string {
	t.Helper()
	kubectl := kubectlCommand(t, s.Lab, append([]string{"servicegroup", "-n", "store"}, args...)...)
	line := "env -u NO_COLOR " + environment + " " + strings.Join(kubectl.Args, " ")
	cmd := exec.CommandContext(t.Context(), "script", "--quiet", "--return", "--command", line, "/dev/null")
	cmd.Env, cmd.SysProcAttr = kubectl.Env, kubectl.SysProcAttr
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// plugin runs kubectl servicegroup in the store's namespace.
func (s *store) plugin(t *testing.T, args ...string) answer {
	t.Helper()
	a := kubectl(t, s.Lab, "", append([]string{"servicegroup", "-n", "store"}, args...)...)
	t.Logf("$ kubectl servicegroup %v  # status %d\n%s%s", args, a.status, a.out, a.err)
	return a
}

// says runs the plugin, which must succeed and print these texts.
func (s *store) says(t *testing.T, args []string, parts ...string) answer {
	t.Helper()
	a := s.plugin(t, args...)
	if err := wants(a.out, parts...); err != nil || a.status != 0 {
		t.Errorf("status %d, %v\n%s", a.status, err, a.err)
	}
	return a
}

// complains runs the plugin, which must fail with this status and one line that has the texts.
func (s *store) complains(t *testing.T, status int, args []string, parts ...string) {
	t.Helper()
	a := s.plugin(t, args...)
	if err := wants(a.err, parts...); err != nil || a.status != status || strings.Count(a.err, "\n") != 1 || a.out != "" {
		t.Errorf("%v: status %d, want %d and one line, %v\n%s", args, a.status, status, err, a.out)
	}
}
