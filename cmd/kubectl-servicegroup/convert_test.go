package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

const web = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop","uid":"u-1"},` +
	`"spec":{"selector":{"app":"web"},"clusterIP":"10.0.0.7","clusterIPs":["10.0.0.7"],"externalIPs":["192.0.2.1"],"ports":[{"port":80}]}}`

const webGroup = `apiVersion: net.servicegroup.dev/v1alpha1
kind: ServiceGroup
metadata:
  annotations:
    net.servicegroup.dev/adopt: u-1
  name: web
  namespace: shop
spec:
  clusterIP: 10.0.0.7
  groups:
  - name: web
    selector:
      matchLabels:
        app: web
  ports:
  - port: 80
`

func TestCommandLine(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/api/v1/namespaces/shop/services/web":
			_, _ = w.Write([]byte(web))
		case "/api/v1/namespaces/shop/services/secret":
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"services \"secret\" is forbidden"}`))
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"not found"}`))
		}
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	kubeconfig := write("kubeconfig", `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "`+server.URL+`"}}]
contexts: [{name: test, context: {cluster: test, namespace: shop}}]
current-context: test
`)
	t.Setenv("KUBECONFIG", kubeconfig)
	other := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
	bare := "apiVersion: v1\nkind: Service\nmetadata: {name: bare}\nspec: {ports: [{port: 80}]}\n"
	list := write("list.yaml", other+"---\n"+web+"\n---\n"+bare)
	const warning = "warning: Service web: spec.externalIPs"

	tests := map[string]struct {
		args   []string
		input  string
		status int
		out    string
		err    string
	}{
		"svc/NAME":             {args: []string{"convert", "svc/web"}, out: webGroup, err: warning},
		"service/NAME":         {args: []string{"convert", "service/web", "-n", "shop"}, out: webGroup, err: warning},
		"NAME":                 {args: []string{"convert", "web", "--context", "test", "--kubeconfig", kubeconfig}, out: webGroup, err: warning},
		"json":                 {args: []string{"convert", "web", "-o", "json"}, out: "{\n  \"apiVersion\": \"net.servicegroup.dev/v1alpha1\",", err: warning},
		"for kube-proxy":       {args: []string{"convert", "web", "--dataplane", "Cluster"}, out: strings.Replace(webGroup, "  groups:", "  dataplane: Cluster\n  groups:", 1), err: warning},
		"unknown data plane":   {args: []string{"convert", "web", "--dataplane", "Moon"}, status: 2, err: "error: --dataplane Moon: give Agent or Cluster\n"},
		"file":                 {args: []string{"convert", "-f", write("web.json", web)}, out: webGroup, err: warning},
		"standard input":       {args: []string{"convert", "-f", "-"}, input: web, out: webGroup, err: warning},
		"a list":               {args: []string{"convert", "-f", "-"}, input: `{"apiVersion":"v1","kind":"List","items":[` + web + `]}`, out: webGroup, err: warning},
		"one of several":       {args: []string{"convert", "-f", list}, status: 1, out: webGroup, err: "error: Service bare: spec.selector is empty"},
		"no such Service":      {args: []string{"convert", "svc/nope"}, status: 1, err: "error: there is no Service nope in namespace shop; kubectl get services -n shop lists those there are\n"},
		"forbidden":            {args: []string{"convert", "svc/secret"}, status: 1, err: `error: getting Service secret of namespace shop: you may not: services "secret" is forbidden; ask who runs the cluster`},
		"no such file":         {args: []string{"convert", "-f", filepath.Join(dir, "nope")}, status: 1, err: "error: reading the Service: open "},
		"file without one":     {args: []string{"convert", "-f", "-"}, input: other, status: 1, err: "error: - holds no Service; give a file with an object of kind Service\n"},
		"file that is no YAML": {args: []string{"convert", "-f", "-"}, input: "{", status: 1, err: "error: reading -, which should be YAML or JSON: "},
		"nothing to convert":   {args: []string{"convert"}, status: 2, err: "error: name one Service, such as svc/web, or a file with -f\n"},
		"two things":           {args: []string{"convert", "svc/web", "-f", list}, status: 2, err: "error: give either svc/web or -f "},
		"no Service":           {args: []string{"convert", "pod/web"}, status: 2, err: "error: pod/web: only Services can be converted; name one, such as svc/web\n"},
		"no name":              {args: []string{"convert", "svc/"}, status: 2, err: `error: "svc/" is not the name of a Service`},
		"unknown format":       {args: []string{"convert", "svc/web", "-o", "wide"}, status: 2, err: "error: -o wide: give yaml or json\n"},
		"unknown flag":         {args: []string{"convert", "svc/web", "--wide"}, status: 2, err: "error: unknown flag: --wide; kubectl servicegroup convert --help lists what there is\n"},
		"unknown command":      {args: []string{"invert"}, status: 2, err: `error: there is no command "invert"; kubectl servicegroup --help lists them` + "\n"},
		"nothing at all":       {out: "Work with ServiceGroups\n\nUsage:\n  kubectl servicegroup"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			streams, in, out, errOut := genericiooptions.NewTestIOStreams()
			in.WriteString(test.input)
			status := run(streams, test.args)
			if status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			if !strings.HasPrefix(out.String(), test.out) || test.out == "" && out.Len() > 0 {
				t.Errorf("printed:\n%s", out)
			}
			if !strings.Contains(errOut.String(), test.err) || test.err == "" && errOut.Len() > 0 {
				t.Errorf("complained:\n%s", errOut)
			}
		})
	}
}
