package docs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	strictyaml "sigs.k8s.io/yaml"
)

// TestEveryManifestIsTaken: the API server takes what the pages show, as kubectl apply --server-side
// --dry-run=server offers it.
func TestEveryManifestIsTaken(t *testing.T) {
	c := requireCluster(t)
	taken := 0
	for _, p := range allPages(t) {
		var whole map[string]any // the page's first ServiceGroup
		for _, b := range p.blocks {
			if _, skipped := b.skipped(); b.language != "yaml" || skipped {
				continue
			}
			objects, err := b.objects()
			m, marksErr := b.marks()
			if m.values {
				objects, err = c.renderChart(t, b.text)
			}
			err = errors.Join(err, marksErr)
			for _, object := range objects {
				switch {
				case m.values:
				case object["kind"] == "ServiceGroup" && whole == nil:
					whole = object
				case object["kind"] == nil:
					object = inside(whole, object)
				}
				taken++
				err = errors.Join(err, c.dryApply(t, object))
			}
			if err != nil {
				t.Errorf("%s:%d: %v\n%s", p.path, b.line, err, b.text)
			}
		}
	}
	if taken < 20 {
		t.Errorf("applied only %d manifests", taken)
	}
}

// renderChart is what helm would install with values, in a namespace where nothing is that it could be mixed with.
func (c *cluster) renderChart(t *testing.T, values string) ([]map[string]any, error) {
	cmd := exec.CommandContext(t.Context(), filepath.Join(c.root, "bin", "helm"), "template", "servicegroup", filepath.Join(c.root, "charts", "servicegroup"),
		"--namespace", "default", "--values", "-")
	cmd.Stdin = strings.NewReader(values)
	var problem bytes.Buffer
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("helm template: %w\n%s", err, problem.String())
	}
	return objectsIn(string(out))
}

// objects are the documents of a block of YAML.
func (b *block) objects() ([]map[string]any, error) { return objectsIn(b.text) }

func objectsIn(text string) ([]map[string]any, error) {
	var out []map[string]any
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewBufferString(text)))
	defer documents.Close()
	for {
		buffer := make([]byte, len(text)+1)
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		var object map[string]any
		if err := strictyaml.UnmarshalStrict(buffer[:n], &object); err != nil {
			return out, err
		}
		if object != nil { // there are comments only where a template has nothing to say
			out = append(out, object)
		}
	}
}

// inside is the ServiceGroup with some fields of its spec replaced.
func inside(whole, fields map[string]any) map[string]any {
	if whole == nil {
		return map[string]any{}
	}
	spec := maps.Clone(whole["spec"].(map[string]any))
	maps.Copy(spec, fields)
	out := maps.Clone(whole)
	out["spec"] = spec
	return out
}

func (c *cluster) dryApply(t *testing.T, fields map[string]any) error {
	object := &unstructured.Unstructured{Object: fields}
	if object.GetKind() == "" {
		return errors.New("a manifest needs a kind, and a part of a spec needs a ServiceGroup earlier on the page")
	}
	namespaced, err := c.objects.IsObjectNamespaced(object)
	if meta.IsNoMatchError(err) && object.GroupVersionKind().Group == "monitoring.coreos.com" {
		return nil // Prometheus' operator is not here; test/install knows its CRDs
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
	}
	if namespaced && object.GetNamespace() == "" {
		object.SetNamespace("default")
	}
	return c.objects.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("reader"), client.ForceOwnership, client.DryRunAll)
}
