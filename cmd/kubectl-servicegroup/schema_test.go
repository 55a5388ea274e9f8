package main

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestThePluginKnowsTheRevisionOfTheCRD(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", "config", "crd", "net.servicegroup.dev_servicegroups.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd unstructured.Unstructured
	if err := yaml.Unmarshal(content, &crd.Object); err != nil {
		t.Fatal(err)
	}
	if got := crd.GetAnnotations()[schemaAnnotation]; got != schemaRevision {
		t.Errorf("the CRD says %q, and the plugin knows %q: count schemaRevision up with it", got, schemaRevision)
	}
}
