package install

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// another has for each of the chart's values one that is not the default. What a value needs beside it to matter
// is in needs.
var another = map[string]any{
	"mode":                                 "all",
	"image.repository":                     "registry.example/servicegroup",
	"image.tag":                            "v1",
	"image.digest":                         "sha256:" + strings.Repeat("0", 64),
	"image.pullPolicy":                     "Always",
	"imagePullSecrets":                     []any{manifests.Values{"name": "secret"}},
	"log.format":                           "json",
	"log.verbosity":                        1,
	"crds.install":                         false,
	"apiServer.host":                       "192.0.2.1",
	"apiServer.port":                       6443,
	"rbac.aggregate":                       false,
	"criticalPodsQuota":                    false,
	"policies.enabled":                     true,
	"metrics.secure":                       false,
	"monitoring.serviceMonitor":            true,
	"monitoring.podMonitor":                true,
	"monitoring.tokenSecret.name":          "token",
	"monitoring.tokenSecret.key":           "bearer",
	"monitoring.prometheusRule":            true,
	"monitoring.dashboard":                 true,
	"monitoring.labels":                    manifests.Values{"release": "prometheus"},
	"monitoring.prometheus.namespace":      "monitoring",
	"monitoring.prometheus.serviceAccount": "prometheus",
	"networkPolicy.enabled":                false,
	"networkPolicy.apiServerRanges":        []any{"192.0.2.1/32"},
	"networkPolicy.metricsFrom":            []any{manifests.Values{"namespaceSelector": manifests.Values{}}},
	"networkPolicy.apiServerPorts":         []any{16443},

	"manager.replicas":                        3,
	"manager.strategy.type":                   "Recreate",
	"manager.strategy.rollingUpdate":          manifests.Values{"maxUnavailable": 1},
	"manager.nodePortRange":                   "30000-30100",
	"manager.externalRanges":                  []any{"192.0.2.0/24"},
	"manager.budgets.endpoints":               1,
	"manager.budgets.backends":                1,
	"manager.budgets.selectorValues":          1,
	"manager.budgets.healthChecks":            1,
	"manager.budgets.exposedServices":         1,
	"manager.healthCheckWorkers":              500,
	"manager.kubeAPIQPS":                      50,
	"manager.concurrency":                     8,
	"manager.namespaceWriteQPS":               20,
	"manager.namespaceWriteBurst":             200,
	"manager.endpointUpdatesBatchPeriod":      "500ms",
	"manager.disruptionBudget.enabled":        false,
	"manager.disruptionBudget.maxUnavailable": "50%",
	"manager.topologySpreadConstraints":       []any{manifests.Values{"maxSkew": 2}},

	"agent.clusterCIDRs":                 []any{"10.244.0.0/16"},
	"agent.detectLocalMode":              "NodeCIDR",
	"agent.podBridgeInterface":           "cni0",
	"agent.podInterfaceNamePrefix":       "veth",
	"agent.nodePortAddresses":            []any{"all"},
	"agent.masqueradeAll":                true,
	"agent.connectionCounters":           true,
	"agent.updateStrategy.type":          "OnDelete",
	"agent.updateStrategy.rollingUpdate": manifests.Values{"maxUnavailable": 1},
}

// anotherOfPods are those of another that manager and agent both have.
var anotherOfPods = map[string]any{
	"metricsPort":                   1234,
	"healthPort":                    1235,
	"pprofAddress":                  "127.0.0.1:6060",
	"priorityClassName":             "high",
	"resources":                     manifests.Values{"limits": manifests.Values{"memory": "2Gi"}},
	"revisionHistoryLimit":          3,
	"terminationGracePeriodSeconds": 30,
	"nodeSelector":                  manifests.Values{"pool": "infra"},
	"tolerations":                   []any{manifests.Values{"key": "infra", "operator": "Exists"}},
	"affinity":                      manifests.Values{"nodeAffinity": manifests.Values{}},
	"podAnnotations":                manifests.Values{"a": "b"},
	"podLabels":                     manifests.Values{"a": "b"},
	"extraArgs":                     []any{"--v=2"},
	"extraEnv":                      []any{manifests.Values{"name": "GOMEMLIMIT", "value": "400MiB"}},
}

var needs = map[string]manifests.Values{
	"mode":                            {"apiServer": manifests.Values{"host": "192.0.2.1"}},
	"apiServer.port":                  {"apiServer": manifests.Values{"host": "192.0.2.1"}},
	"monitoring.podMonitor":           {"metrics": manifests.Values{"secure": false}},
	"monitoring.tokenSecret.name":     {"monitoring": manifests.Values{"serviceMonitor": true}},
	"monitoring.tokenSecret.key":      {"monitoring": manifests.Values{"serviceMonitor": true, "tokenSecret": manifests.Values{"name": "token"}}},
	"monitoring.labels":               {"monitoring": manifests.Values{"dashboard": true}},
	"monitoring.prometheus.namespace": {"monitoring": manifests.Values{"prometheus": manifests.Values{"serviceAccount": "prometheus"}}},
}

// TestEveryValueMatters: each of the chart's values is known to the schema, and changes what is installed.
func TestEveryValueMatters(t *testing.T) {
	chart, err := manifests.Chart()
	must(t, "loading the chart", err)
	all := maps.Clone(another)
	for name, value := range anotherOfPods {
		all["manager."+name], all["agent."+name] = value, value
	}
	for _, path := range valuesOf(chart.Values, all, "") {
		value, known := all[path]
		if !known {
			t.Errorf("the test knows no other value of %s", path)
			continue
		}
		delete(all, path)
		before := needs[path]
		if path != "crds.install" { // most of the time would go into the CRD
			before = with(before, []string{"crds", "install"}, false)
		}
		if rendered(t, before) == rendered(t, with(before, strings.Split(path, "."), value)) {
			t.Errorf("%s: %v changes nothing", path, value)
		}
	}
	for path := range all {
		t.Errorf("values.yaml does not name %s", path)
	}
}

// TestTheSchemaIsTheValues: it has no more than values.yaml explains.
func TestTheSchemaIsTheValues(t *testing.T) {
	chart, err := manifests.Chart()
	must(t, "loading the chart", err)
	path, err := manifests.ChartPath()
	must(t, "finding the chart", err)
	text, err := os.ReadFile(filepath.Join(path, "values.schema.json"))
	must(t, "reading the schema", err)
	var top chartSchema
	must(t, "reading the schema", json.Unmarshal(text, &top))
	delete(top.Properties, "global") // Helm's own
	top.expectExplained(t, chart.Values, "values")
}

// chartSchema is the part of a JSON schema that names what there is.
type chartSchema struct {
	Properties map[string]chartSchema
}

// listed are values of which values.yaml shows some fields.
var listed = []string{"values.manager.resources", "values.agent.resources", "values.agent.updateStrategy.rollingUpdate"}

func (s chartSchema) expectExplained(t *testing.T, values manifests.Values, path string) {
	t.Helper()
	if slices.Contains(listed, path) {
		return
	}
	for name, property := range s.Properties {
		value, there := values[name]
		if !there {
			t.Errorf("%s.%s is in the schema and not in values.yaml", path, name)
		}
		if below, ok := value.(manifests.Values); ok {
			property.expectExplained(t, below, path+"."+name)
		}
	}
}

// valuesOf are the paths of the values that another has, or that have nothing below them.
func valuesOf(values manifests.Values, another map[string]any, prefix string) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		path := prefix + name
		below, deeper := values[name].(manifests.Values)
		if _, known := another[path]; known || !deeper || len(below) == 0 {
			out = append(out, path)
			continue
		}
		out = append(out, valuesOf(below, another, path+".")...)
	}
	return out
}

// with returns values with one more.
func with(values manifests.Values, path []string, value any) manifests.Values {
	out := manifests.Values{}
	maps.Copy(out, values)
	if len(path) == 1 {
		out[path[0]] = value
		return out
	}
	below, _ := values[path[0]].(manifests.Values)
	out[path[0]] = with(below, path[1:], value)
	return out
}

func rendered(t *testing.T, values manifests.Values) string {
	t.Helper()
	objects, err := manifests.Helm(values)
	if err != nil {
		t.Errorf("%v: %v", values, err)
	}
	text, err := json.Marshal(objects)
	must(t, "writing the objects", err)
	return string(text)
}
