package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Index is what a name in a registry leads to: an image for each platform.
type Index struct {
	// Digest is of everything: equal digests are equal images.
	Digest    v1.Hash
	MediaType types.MediaType
	// Images are by their platforms, such as linux/amd64.
	Images map[string]*Image
}

// Image is an image of one platform.
type Image struct {
	// Layers is the number of layers.
	Layers int
	// Config says what the image starts and as whom.
	Config *v1.ConfigFile
	// Files are those of all layers.
	Files []File

	// dir is for the containers that run it.
	dir string
}

// File is a file of an image.
type File struct {
	*tar.Header
	Content []byte
}

// pull reads what a registry has under a name.
func pull(from, dir string, options ...remote.Option) (*Index, error) {
	reference, err := name.ParseReference(from)
	if err != nil {
		return nil, fmt.Errorf("naming the image: %w", err)
	}
	found, err := remote.Index(reference, options...)
	if err != nil {
		return nil, fmt.Errorf("asking the registry for %s: %w", from, err)
	}
	index := &Index{Images: map[string]*Image{}}
	if index.Digest, err = found.Digest(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", from, err)
	}
	manifest, err := found.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", from, err)
	}
	index.MediaType = manifest.MediaType
	for _, of := range manifest.Manifests {
		platform := of.Platform.String()
		if index.Images[platform] != nil {
			return nil, fmt.Errorf("%s has two images for %s", from, platform)
		}
		image, err := found.Image(of.Digest)
		if err != nil {
			return nil, fmt.Errorf("reading %s for %s: %w", from, platform, err)
		}
		if index.Images[platform], err = read(image, filepath.Join(dir, of.Digest.Hex)); err != nil {
			return nil, fmt.Errorf("reading %s for %s: %w", from, platform, err)
		}
	}
	return index, nil
}

func read(image v1.Image, dir string) (*Image, error) {
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := image.Layers()
	if err != nil {
		return nil, err
	}
	out := &Image{Config: config, Layers: len(layers), dir: dir}
	for _, layer := range layers {
		if err := out.readLayer(layer); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (i *Image) readLayer(layer v1.Layer) error {
	content, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer content.Close()
	for files := tar.NewReader(content); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := io.ReadAll(files)
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
