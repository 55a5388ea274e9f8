package integration

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

var (
	yamlBlock    = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	fieldHeading = regexp.MustCompile("(?m)^### `(.*)`$")
	reasonValue  = regexp.MustCompile(`(?m)^\tReason\w+ = "(\w+)"$`)
	typeValue    = regexp.MustCompile(`(?m)^\tCondition\w+ = "(\w+)"$`)
)

func readFile(path ...string) string {
	GinkgoHelper()
	text, err := os.ReadFile(filepath.Join(append([]string{moduleRoot}, path...)...))
	Expect(err).NotTo(HaveOccurred())
	return string(text)
}

// example is a YAML block of a page.
type example struct {
	page string
	text string
}

func examplesOf(pages ...string) []example {
	GinkgoHelper()
	var out []example
	for _, page := range pages {
		for _, found := range yamlBlock.FindAllStringSubmatch(readFile(page), -1) {
			out = append(out, example{page: page, text: found[1]})
		}
	}
	return out
}

// dryApply applies a ServiceGroup as kubectl apply --server-side --dry-run=server does.
func dryApply(object map[string]any) error {
	group := &unstructured.Unstructured{Object: object}
	group.SetNamespace(namespace)
	return k8s.Apply(ctx, client.ApplyConfigurationFromUnstructured(group), client.FieldOwner("reader"), client.DryRunAll)
}

var _ = Describe("The documentation", func() {
	It("shows ServiceGroups that the API server takes", func() {
		var base map[string]any
		var whole int
		for _, e := range examplesOf("docs/fields.md", "README.md") {
			var object map[string]any
			Expect(yaml.UnmarshalStrict([]byte(e.text), &object)).To(Succeed(), "%s:\n%s", e.page, e.text)
			switch {
			case object["kind"] == "ServiceGroup":
				whole++
				if base == nil {
					base = object
				}
			case e.page == "docs/fields.md": // a part of a spec; the rest is that of the first example
				spec := maps.Clone(base["spec"].(map[string]any))
				maps.Copy(spec, object)
				object = maps.Clone(base)
				object["spec"] = spec
			default:
				continue
			}
			Expect(dryApply(object)).To(Succeed(), "%s:\n%s", e.page, e.text)
		}
		Expect(whole).To(BeNumerically(">=", 2), "the first of docs/fields.md and that of README.md")
	})

	It("has a chapter for every field of the spec, and for no other", func() {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		text := readFile("config", "crd", v1alpha1.GroupVersion.Group+"_servicegroups.yaml")
		Expect(yaml.UnmarshalStrict([]byte(text), crd)).To(Succeed())
		schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
		var chapters []string
		for _, found := range fieldHeading.FindAllStringSubmatch(readFile("docs", "fields.md"), -1) {
			chapters = append(chapters, found[1])
		}
		Expect(chapters).To(ConsistOf(fieldsOf("", schema)))
	})

	It("has a line for every condition and reason", func() {
		page, source := readFile("docs", "conditions.md"), readFile("api", "v1alpha1", "conditions.go")
		for _, found := range typeValue.FindAllStringSubmatch(source, -1) {
			Expect(page).To(ContainSubstring("\n## " + found[1] + "\n"))
		}
		for _, found := range reasonValue.FindAllStringSubmatch(source, -1) {
			Expect(page).To(ContainSubstring("\n| `" + found[1] + "` |"))
		}
	})
})

// fieldsOf are the paths of the fields of a schema; a selector and a map are one field.
func fieldsOf(path string, schema apiextensionsv1.JSONSchemaProps) []string {
	if schema.Items != nil && schema.Items.Schema != nil {
		return fieldsOf(path+"[]", *schema.Items.Schema)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		at := strings.TrimPrefix(path+"."+name, ".")
		out = append(out, at)
		if name != "selector" {
			out = append(out, fieldsOf(at, schema.Properties[name])...)
		}
	}
	return out
}
