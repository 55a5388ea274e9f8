package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// Image is the image that both ways of installing name by default.
const Image = "ghcr.io/servicegroup-dev/servicegroup:latest"

// Namespace is where kustomize installs to.
const Namespace = "servicegroup-system"

// Kustomize returns what make deploy applies, with these components.
func Kustomize(components ...string) ([]*unstructured.Unstructured, error) {
	root, err := lab.ModuleRoot()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(root, "hack", "kustomize.sh"), append([]string{"default", Image}, components...)...)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return nil, fmt.Errorf("building config/default (make bin/kustomize builds kustomize): %w: %s", err, failed.Stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("building config/default: %w", err)
	}
	return Parse(string(out))
}

// Parse returns the objects of a YAML stream.
func Parse(stream string) ([]*unstructured.Unstructured, error) {
	decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(stream), 4096)
	var out []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading manifests: %w", err)
		}
		if len(object.Object) > 0 {
			out = append(out, object)
		}
	}
}

// Find returns the object of this kind and name.
func Find(objects []*unstructured.Unstructured, kind, name string) (*unstructured.Unstructured, error) {
	var names bytes.Buffer
	for _, object := range objects {
		if object.GetKind() == kind && object.GetName() == name {
			return object, nil
		}
		fmt.Fprintf(&names, " %s/%s", object.GetKind(), object.GetName())
	}
	return nil, fmt.Errorf("there is no %s %s among%s", kind, name, names.String())
}
