package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ModuleRoot is the nearest folder with a go.mod and a PROJECT file, from the working directory up: the
// modules of tools and tests inside the repository have no such file.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for {
		if exists(filepath.Join(dir, "go.mod")) && exists(filepath.Join(dir, "PROJECT")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("finding the repository: there is no go.mod with a PROJECT file beside it in the working directory or above; run this inside a clone")
		}
		dir = parent
	}
}

// kubernetesBinary finds a program that `make tools` builds; KUBEBUILDER_ASSETS wins.
func kubernetesBinary(name string) (string, error) {
	if assets := os.Getenv("KUBEBUILDER_ASSETS"); assets != "" {
		if path := filepath.Join(assets, name); isExecutable(path) {
			return path, nil
		}
	}
	return repositoryBinary(filepath.Join("bin", "k8s", name), "make tools")
}

// ProjectBinary finds the project's own program.
func ProjectBinary() (string, error) {
	return repositoryBinary(filepath.Join("bin", "servicegroup"), "make build")
}

// PreviousBinary finds the program of the release before this one.
func PreviousBinary() (string, error) {
	return repositoryBinary(filepath.Join("bin", "previous", "bin", "servicegroup"), "make previous")
}

func repositoryBinary(path, remedy string) (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	if path = filepath.Join(root, path); !isExecutable(path) {
		return "", fmt.Errorf("%s is missing: run `%s`", filepath.Base(path), remedy)
	}
	return path, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
