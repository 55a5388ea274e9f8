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
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

var (
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

var _ = Describe("The documentation", func() {
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
