package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

var crdResource = schema.GroupVersionResource{
	Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
}

// installCRDs applies the CRDs of config/crd and waits until they are served.
func (c *ControlPlane) installCRDs(ctx context.Context) error {
	root, err := ModuleRoot()
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(root, "config", "crd", "*_*.yaml"))
	if err != nil || len(files) == 0 {
		return errors.Join(errors.New("installing CRDs: there are none in config/crd"), err)
	}
	client, err := dynamic.NewForConfig(c.Config())
	if err != nil {
		return fmt.Errorf("creating a client: %w", err)
	}
	for _, file := range files {
		if err := installCRD(ctx, client, file); err != nil {
			return fmt.Errorf("installing %s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

func installCRD(ctx context.Context, client dynamic.Interface, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	crd := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(content, &crd.Object); err != nil {
		return err
	}
	name := crd.GetName()
	if _, err = client.Resource(crdResource).Create(ctx, crd, metav1.CreateOptions{}); err != nil {
		return err
	}
	return poll(ctx, startBound, nil, func(ctx context.Context) error {
		crd, err := client.Resource(crdResource).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return served(ctx, client, crd)
	})
}

// served returns nil when a list of the CRD's objects succeeds: Established is set a moment before.
func served(ctx context.Context, client dynamic.Interface, crd *unstructured.Unstructured) error {
	conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions") // absent at first
	established := false
	for _, condition := range conditions {
		fields, ok := condition.(map[string]any)
		established = established || ok && fields["type"] == "Established" && fields["status"] == "True"
	}
	if !established {
		return fmt.Errorf("%s is not established", crd.GetName())
	}
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, version := range versions {
		fields, ok := version.(map[string]any)
		if !ok || fields["served"] != true {
			continue
		}
		resource := schema.GroupVersionResource{Group: group, Version: fmt.Sprint(fields["name"]), Resource: plural}
		if _, err := client.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
			return err
		}
	}
	return nil
}
