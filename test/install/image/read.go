package image

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image of one platform, in a folder laid out as the OCI image specification says.
type Image struct {
	// Digest is that of the manifest: equal digests are equal images.
	Digest digest.Digest
	// Layers is the number of layers.
	Layers int
	// Config says what the image starts and as whom.
	Config v1.Image
	// Files are those of all layers.
	Files []File

	dir string
}

// File is a file of an image.
type File struct {
	*tar.Header
	Content []byte
}

func read(dir string) (*Image, error) {
	var index v1.Index
	if err := readJSON(filepath.Join(dir, v1.ImageIndexFile), &index); err != nil {
		return nil, err
	}
	if len(index.Manifests) != 1 {
		return nil, fmt.Errorf("the image has %d manifests", len(index.Manifests))
	}
	image := &Image{Digest: index.Manifests[0].Digest, dir: dir}
	var manifest v1.Manifest
	if err := readJSON(image.blob(image.Digest), &manifest); err != nil {
		return nil, err
	}
	if err := readJSON(image.blob(manifest.Config.Digest), &image.Config); err != nil {
		return nil, err
	}
	image.Layers = len(manifest.Layers)
	for _, layer := range manifest.Layers {
		if err := image.readLayer(layer.Digest); err != nil {
			return nil, fmt.Errorf("reading layer %s: %w", layer.Digest, err)
		}
	}
	return image, nil
}

func (i *Image) blob(of digest.Digest) string {
	return filepath.Join(i.dir, v1.ImageBlobsDir, of.Algorithm().String(), of.Encoded())
}

func (i *Image) readLayer(of digest.Digest) error {
	file, err := os.Open(i.blob(of))
	if err != nil {
		return err
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	for layer := tar.NewReader(unzipped); ; {
		header, err := layer.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := io.ReadAll(layer)
		if err != nil {
			return err
		}
		i.Files = append(i.Files, File{Header: header, Content: content})
	}
}

// unpack writes the files into a folder.
func (i *Image) unpack(root string) error {
	for _, file := range i.Files {
		path := filepath.Join(root, filepath.Clean("/"+file.Name))
		switch file.Typeflag {
		case tar.TypeDir:
			if err := os.MkdirAll(path, file.FileInfo().Mode().Perm()); err != nil {
				return err
			}
		case tar.TypeReg:
			if err := os.WriteFile(path, file.Content, file.FileInfo().Mode().Perm()); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s is neither a file nor a folder", file.Name)
		}
	}
	return nil
}

func readJSON(path string, into any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}
