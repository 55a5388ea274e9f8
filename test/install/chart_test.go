package install

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// everything are the values that install what kustomize's components do.
var everything = manifests.Values{
	"policies":   manifests.Values{"enabled": true},
	"monitoring": manifests.Values{"serviceMonitor": true, "prometheusRule": true, "dashboard": true},
}

// comparable returns the objects as JSON by kind and name, without what each tool adds of its own.
func comparable(t *testing.T, objects []*unstructured.Unstructured) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, object := range objects {
		if object.GetKind() == "Namespace" {
			continue // Helm's user creates it
		}
		labels := object.GetLabels()
		maps.DeleteFunc(labels, func(name, _ string) bool {
			return strings.HasPrefix(name, "app.kubernetes.io/") || strings.HasPrefix(name, "helm.sh/")
		})
		if object.SetLabels(labels); len(labels) == 0 {
			unstructured.RemoveNestedField(object.Object, "metadata", "labels")
		}
		text, err := json.MarshalIndent(object.Object, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
		if out[key] != "" {
			t.Errorf("%s is there twice", key)
		}
		out[key] = string(text)
	}
	return out
}

// TestKustomizeAndHelmAreEqual: both ways of installing lead to the same objects, with and without
// what is optional.
func TestKustomizeAndHelmAreEqual(t *testing.T) {
	for _, test := range []struct {
		name       string
		values     manifests.Values
		components []string
	}{
		{"default", nil, nil},
		{"everything", everything, []string{"policies", "monitoring"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			fromHelm, err := manifests.Helm(test.values)
			if err != nil {
				t.Fatal(err)
			}
			fromKustomize, err := manifests.Kustomize(test.components...)
			if err != nil {
				t.Fatal(err)
			}
			helm, kustomize := comparable(t, fromHelm), comparable(t, fromKustomize)
			if got, want := slices.Sorted(maps.Keys(helm)), slices.Sorted(maps.Keys(kustomize)); !slices.Equal(got, want) {
				t.Fatalf("Helm has\n%s\nkustomize has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			for key := range kustomize {
				if helm[key] != kustomize[key] {
					t.Errorf("%s differs: Helm has\n%s\nkustomize has\n%s", key, helm[key], kustomize[key])
				}
			}
		})
	}
}

// TestChartLint: helm lint has nothing to say.
func TestChartLint(t *testing.T) {
	path, err := manifests.ChartPath()
	if err != nil {
		t.Fatal(err)
	}
	for _, values := range []manifests.Values{nil, everything} {
		for _, message := range lint.RunAll(path, values, manifests.Namespace).Messages {
			if message.Severity > support.InfoSev {
				t.Error(message)
			}
		}
	}
}

// TestValuesOffTheSchema: wrong values are refused with the name of the field.
func TestValuesOffTheSchema(t *testing.T) {
	for _, test := range []struct {
		values manifests.Values
		want   []string
	}{
		{manifests.Values{"mod": "groups"}, []string{"mod"}},
		{manifests.Values{"mode": "some"}, []string{"mode", "groups", "all"}},
		{manifests.Values{"mode": "all"}, []string{"apiServer/host"}},
		{manifests.Values{"manager": manifests.Values{"replicas": "two"}}, []string{"manager/replicas", "integer"}},
		{manifests.Values{"manager": manifests.Values{"replica": 2}}, []string{"manager", "replica"}},
		{manifests.Values{"manager": manifests.Values{"nodePortRange": "30000"}}, []string{"manager/nodePortRange"}},
		{manifests.Values{"manager": manifests.Values{"externalRanges": []any{"10.0.0.0"}}}, []string{"manager/externalRanges/0"}},
		{manifests.Values{"manager": manifests.Values{"namespaceWriteBurst": 3}}, []string{"manager/namespaceWriteBurst"}},
		{manifests.Values{"manager": manifests.Values{"endpointUpdatesBatchPeriod": "soon"}}, []string{"manager/endpointUpdatesBatchPeriod"}},
		{manifests.Values{"agent": manifests.Values{"clusterCIDRs": "10.244.0.0/16"}}, []string{"agent/clusterCIDRs", "array"}},
		{manifests.Values{"agent": manifests.Values{"metricsPort": 70000}}, []string{"agent/metricsPort", "maximum"}},
		{manifests.Values{"agent": manifests.Values{"detectLocalMode": "Magic"}}, []string{"agent/detectLocalMode"}},
		{manifests.Values{"image": manifests.Values{"digest": "sha256:short"}}, []string{"image/digest"}},
		{manifests.Values{"log": manifests.Values{"format": "xml"}}, []string{"log/format"}},
		{manifests.Values{"monitoring": manifests.Values{"monitors": true}}, []string{"monitoring", "monitors"}},
		{manifests.Values{"monitoring": manifests.Values{"podMonitor": true}}, []string{"monitoring.podMonitor", "monitoring.tokenSecret.name"}},
		{manifests.Values{"networkPolicy": manifests.Values{"metricsFrom": []any{"monitoring"}}}, []string{"networkPolicy/metricsFrom/0", "object"}},
		{manifests.Values{"manager": manifests.Values{"strategy": manifests.Values{"type": "Slow"}}}, []string{"manager/strategy/type"}},
		{manifests.Values{"agent": manifests.Values{"extraEnv": []any{manifests.Values{"value": "1"}}}}, []string{"agent/extraEnv/0", "name"}},
		{manifests.Values{"agent": manifests.Values{"updateStrategy": manifests.Values{"rollingUpdate": manifests.Values{"maxSurge": 1}}}}, []string{"agent/updateStrategy/rollingUpdate/maxSurge"}},
	} {
		_, err := manifests.Helm(test.values)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("values %v: %v, want an error with %q", test.values, err, want)
			}
		}
	}
}

// container is the container of a workload.
func container(t *testing.T, values manifests.Values, kind, name string) map[string]any {
	t.Helper()
	objects, err := manifests.Helm(values)
	if err != nil {
		t.Fatal(err)
	}
	object, err := manifests.Find(objects, kind, name)
	if err != nil {
		t.Fatal(err)
	}
	containers, _, err := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) != 1 {
		t.Fatalf("%s has containers %v (%v)", name, containers, err)
	}
	return containers[0].(map[string]any)
}

// TestValuesReachTheCommandLines: what the values say is what the programs are told.
func TestValuesReachTheCommandLines(t *testing.T) {
	values := manifests.Values{
		"mode":      "all",
		"apiServer": manifests.Values{"host": "192.0.2.1", "port": 6443},
		"log":       manifests.Values{"format": "json", "verbosity": 1},
		"metrics":   manifests.Values{"secure": false},
		"image":     manifests.Values{"repository": "registry.example/sg", "tag": "v1"},
		"manager": manifests.Values{
			"nodePortRange": "30000-30100", "externalRanges": []any{"192.0.2.0/24", "2001:db8::/32"}, "healthCheckWorkers": 500, "kubeAPIQPS": 50,
			"concurrency": 8, "namespaceWriteQPS": 20, "namespaceWriteBurst": 200, "endpointUpdatesBatchPeriod": "500ms", "pprofAddress": "127.0.0.1:6060", "extraArgs": []any{"--lease-namespace=other"},
			"budgets": manifests.Values{"endpoints": 1, "backends": 2, "selectorValues": 3, "healthChecks": 4, "exposedServices": 5},
		},
		"agent": manifests.Values{
			"clusterCIDRs": []any{"10.244.0.0/16", "fd00::/48"}, "detectLocalMode": "BridgeInterface", "podBridgeInterface": "cni0",
			"nodePortAddresses": []any{"all"}, "masqueradeAll": true, "connectionCounters": true,
		},
	}
	for _, test := range []struct {
		kind, name string
		want       []string
	}{
		{"Deployment", "servicegroup-manager", []string{
			"manager", "--leader-elect", "--metrics-bind-address=:8443", "--health-probe-bind-address=:8081", "--log-format=json", "--v=1",
			"--metrics-secure=false", "--node-port-range=30000-30100", "--external-ranges=192.0.2.0/24,2001:db8::/32",
			"--max-endpoints=1", "--max-backends=2", "--max-selector-values=3", "--max-health-checks=4", "--max-exposed-services=5",
			"--health-check-workers=500", "--kube-api-qps=50", "--concurrency=8", "--namespace-write-qps=20", "--namespace-write-burst=200",
			"--endpoint-updates-batch-period=500ms", "--pprof-bind-address=127.0.0.1:6060", "--lease-namespace=other",
		}},
		{"DaemonSet", "servicegroup-agent", []string{
			"agent", "--mode=all", "--metrics-bind-address=:10249", "--health-bind-address=:10256", "--log-format=json", "--v=1",
			"--metrics-secure=false", "--cluster-cidr=10.244.0.0/16,fd00::/48", "--detect-local-mode=BridgeInterface",
			"--pod-bridge-interface=cni0", "--nodeport-addresses=all", "--masquerade-all", "--connection-counters",
		}},
	} {
		c := container(t, values, test.kind, test.name)
		if got, want := fmt.Sprint(c["args"]), fmt.Sprint(test.want); got != want {
			t.Errorf("%s is told\n%s, want\n%s", test.name, got, want)
		}
		if c["image"] != "registry.example/sg:v1" {
			t.Errorf("%s has the image %v", test.name, c["image"])
		}
		if env := fmt.Sprint(c["env"]); !strings.Contains(env, "name:KUBERNETES_SERVICE_HOST value:192.0.2.1") || !strings.Contains(env, "value:6443") {
			t.Errorf("%s has the environment %s", test.name, env)
		}
	}
}

// TestNotesNameTheImage: what is installed is the image, of whichever version the chart is.
func TestNotesNameTheImage(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	for want, values := range map[string]manifests.Values{
		"v1.2.3": {"image": manifests.Values{"tag": "v1.2.3"}},
		digest:   {"image": manifests.Values{"tag": "v1.2.3", "digest": digest}},
	} {
		notes, err := manifests.HelmNotes(values)
		if err != nil {
			t.Fatal(err)
		}
		if begin := "ServiceGroup " + want + " is installed in " + manifests.Namespace; !strings.HasPrefix(notes, begin) {
			t.Errorf("the notes begin %.100q, want %q", notes, begin)
		}
	}
}

// TestExternalRangesCanBeChecked: what the manager may serve it may also reach, and look up; and nothing
// but the API server where there are none.
func TestExternalRangesCanBeChecked(t *testing.T) {
	for want, values := range map[string]manifests.Values{
		"[map[ports:[map[port:443 protocol:TCP] map[port:6443 protocol:TCP] map[port:8443 protocol:TCP]]]]": nil,
		"[map[ports:[map[port:443 protocol:TCP] map[port:6443 protocol:TCP] map[port:8443 protocol:TCP]]] " +
			"map[ports:[map[port:53 protocol:UDP] map[port:53 protocol:TCP]]] " +
			"map[to:[map[ipBlock:map[cidr:192.0.2.0/24]] map[ipBlock:map[cidr:2001:db8::/32]]]]]": {
			"manager": manifests.Values{"externalRanges": []any{"192.0.2.0/24", "2001:db8::/32"}},
		},
	} {
		objects, err := manifests.Helm(values)
		if err != nil {
			t.Fatal(err)
		}
		policy, err := manifests.Find(objects, "NetworkPolicy", "servicegroup-manager")
		if err != nil {
			t.Fatal(err)
		}
		if egress, _, err := unstructured.NestedSlice(policy.Object, "spec", "egress"); err != nil || fmt.Sprint(egress) != want {
			t.Errorf("%v: the manager may reach\n%v (%v), want\n%s", values, egress, err, want)
		}
	}
}

// TestAnotherNamespace: nothing of a release in another namespace is about kustomize's.
func TestAnotherNamespace(t *testing.T) {
	objects, err := manifests.HelmIn("elsewhere", everything)
	must(t, "rendering the chart", err)
	for _, object := range objects {
		text, err := json.Marshal(object.Object)
		must(t, "writing "+object.GetName(), err)
		if strings.Contains(string(text), manifests.Namespace) {
			t.Errorf("%s %s is about %s", object.GetKind(), object.GetName(), manifests.Namespace)
		}
	}
}

// TestOptionsTakeObjectsAway: what is switched off is not rendered.
func TestOptionsTakeObjectsAway(t *testing.T) {
	values := manifests.Values{
		"crds": manifests.Values{"install": false}, "criticalPodsQuota": false,
		"rbac": manifests.Values{"aggregate": false}, "metrics": manifests.Values{"secure": false},
		"networkPolicy": manifests.Values{"enabled": false},
		"manager":       manifests.Values{"disruptionBudget": manifests.Values{"enabled": false}},
		"monitoring":    manifests.Values{"serviceMonitor": true, "labels": manifests.Values{"release": "prometheus"}},
	}
	objects, err := manifests.Helm(values)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		switch kind, name := object.GetKind(), object.GetName(); {
		case kind == "CustomResourceDefinition", kind == "ResourceQuota", kind == "NetworkPolicy", kind == "PodDisruptionBudget",
			kind == "ConfigMap", strings.HasPrefix(kind, "ValidatingAdmission"), name == "servicegroup-metrics-auth", name == "servicegroup-metrics-reader":
			t.Errorf("%s %s is there", kind, name)
		case name == "servicegroup-viewer" && len(object.GetLabels()) != 0:
			t.Errorf("the viewer's role has labels %v", object.GetLabels())
		case kind == "ServiceMonitor":
			endpoints, _, _ := unstructured.NestedSlice(object.Object, "spec", "endpoints")
			if fmt.Sprint(endpoints) != "[map[port:metrics scheme:http]]" || object.GetLabels()["release"] != "prometheus" {
				t.Errorf("ServiceMonitor %s with labels %v has endpoints %v", name, object.GetLabels(), endpoints)
			}
		}
	}
}

// TestMonitors: what finds the metrics, and what is shown for them.
func TestMonitors(t *testing.T) {
	token := manifests.Values{"name": "token"}
	const (
		tls      = "port:metrics scheme:https tlsConfig:map[insecureSkipVerify:true]"
		ownToken = "[map[bearerTokenFile:/var/run/secrets/kubernetes.io/serviceaccount/token " + tls + "]]"
		secret   = "[map[authorization:map[credentials:map[key:token name:token]] "
		bySecret = secret + tls + "]]"
		// By their job alerts and dashboard know the agents' metrics.
		job       = "relabelings:[map[replacement:servicegroup-agent-metrics targetLabel:job]] "
		podSecret = secret + "port:metrics " + job + "scheme:https tlsConfig:map[insecureSkipVerify:true]]]"
		podHTTP   = "[map[port:metrics " + job + "scheme:http]]"
	)
	for _, test := range []struct {
		name       string
		monitoring manifests.Values
		secure     bool
		want       map[string]string
	}{
		{"none", manifests.Values{}, true, map[string]string{}},
		{"Services", manifests.Values{"serviceMonitor": true}, true, map[string]string{
			"ServiceMonitor servicegroup-manager": ownToken, "ServiceMonitor servicegroup-agent": ownToken,
		}},
		{"Services, with a token", manifests.Values{"serviceMonitor": true, "tokenSecret": token}, true, map[string]string{
			"ServiceMonitor servicegroup-manager": bySecret, "ServiceMonitor servicegroup-agent": bySecret,
		}},
		{"the agents' pods", manifests.Values{"serviceMonitor": true, "podMonitor": true, "tokenSecret": token}, true, map[string]string{
			"ServiceMonitor servicegroup-manager": bySecret, "PodMonitor servicegroup-agent": podSecret,
		}},
		{"the agents' pods, for everybody", manifests.Values{"podMonitor": true}, false, map[string]string{
			"PodMonitor servicegroup-agent": podHTTP,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			objects, err := manifests.Helm(manifests.Values{"monitoring": test.monitoring, "metrics": manifests.Values{"secure": test.secure}})
			must(t, "rendering the chart", err)
			found := map[string]string{}
			for _, object := range objects {
				field := map[string]string{"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}[object.GetKind()]
				if field == "" {
					continue
				}
				endpoints, _, _ := unstructured.NestedSlice(object.Object, "spec", field)
				found[object.GetKind()+" "+object.GetName()] = fmt.Sprint(endpoints)
				expectSelected(t, objects, object)
			}
			if !maps.Equal(found, test.want) {
				t.Errorf("there are %v, want %v", found, test.want)
			}
		})
	}
}

// expectSelected checks that a monitor selects something that is installed.
func expectSelected(t *testing.T, objects []*unstructured.Unstructured, monitor *unstructured.Unstructured) {
	t.Helper()
	wanted, _, _ := unstructured.NestedStringMap(monitor.Object, "spec", "selector", "matchLabels")
	for _, object := range objects {
		has := object.GetLabels()
		if monitor.GetKind() == "PodMonitor" {
			has, _, _ = unstructured.NestedStringMap(object.Object, "spec", "template", "metadata", "labels")
		} else if object.GetKind() != "Service" {
			continue
		}
		if len(wanted) > 0 && labels.SelectorFromSet(wanted).Matches(labels.Set(has)) {
			return
		}
	}
	t.Errorf("%s %s selects %v, which nothing has", monitor.GetKind(), monitor.GetName(), wanted)
}

var valuesBlock = regexp.MustCompile("(?ms)^```yaml[^\n]*\n# values\n(.*?)^```$")

// TestDocumentedValues: the chart takes the values that docs/install.md shows.
func TestDocumentedValues(t *testing.T) {
	root, err := lab.ModuleRoot()
	must(t, "finding the repository", err)
	page, err := os.ReadFile(filepath.Join(root, "docs", "install.md"))
	must(t, "reading the page", err)
	blocks := valuesBlock.FindAllSubmatch(page, -1)
	if len(blocks) < 2 {
		t.Errorf("docs/install.md shows only %d sets of values", len(blocks))
	}
	for _, block := range blocks {
		values := manifests.Values{}
		must(t, "reading the values", yaml.UnmarshalStrict(block[1], &values))
		if _, err := manifests.Helm(values); err != nil {
			t.Errorf("the values\n%s: %v", block[1], err)
		}
	}
}
