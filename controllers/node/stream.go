package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// message is an object that decodes itself from protobuf.
type message[T any] interface {
	*T
	runtime.Object
	Unmarshal([]byte) error
}

// newInformer returns an informer that slims the objects of a list while it reads it: the list of a
// large cluster as a whole, in bytes and in objects, would be several times what is kept of it, and the
// most memory that the agent ever needs.
func newInformer[T any, P message[T]](client rest.Interface, resource string, tweak func(*metav1.ListOptions)) cache.SharedIndexInformer {
	source := cache.NewFilteredListWatchFromClient(client, resource, metav1.NamespaceAll, tweak)
	source.ListWithContextFunc = func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		tweak(&options)
		body, err := client.Get().Resource(resource).VersionedParams(&options, metav1.ParameterCodec).
			SetHeader("Accept", runtime.ContentTypeProtobuf).Stream(ctx)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		list, err := readList[T, P](body)
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", resource, err)
		}
		return list, nil
	}
	announceLists[T, P](source)
	return cache.NewSharedIndexInformer(source, P(new(T)), 0, cache.Indexers{})
}

// What a list is made of in Kubernetes' protobuf (k8s.io/apimachinery, runtime/generated.proto and
// api/core/v1/generated.proto): a magic number and a runtime.Unknown with the list's own message, which
// for every kind has the metadata first and then the items.
const (
	magic         = "k8s\x00"
	fieldRaw      = 2
	fieldListMeta = 1
	fieldItems    = 2
)

// maxObject is more than etcd takes of an object, in bytes: 1.5 MiB, unless configured otherwise.
const maxObject = 1 << 26

// readList reads a list and keeps of each object what slim keeps.
func readList[T any, P message[T]](in io.Reader) (*internalversion.List, error) {
	r := &wire{in: bufio.NewReaderSize(in, 1<<16), left: 1<<63 - 1}
	if found, err := r.in.Peek(len(magic)); err != nil || !bytes.Equal(found, []byte(magic)) {
		return nil, errors.Join(errors.New("the answer is not in Kubernetes' protobuf"), err)
	}
	_, _ = r.in.Discard(len(magic)) // it was there a moment ago
	for number := 0; number != fieldRaw; {
		var err error
		if number, err = r.next(); err != nil {
			return nil, noEOF(err)
		}
		if number != fieldRaw {
			if _, err := r.value(); err != nil {
				return nil, err
			}
		}
	}
	r.left = r.length
	list := &internalversion.List{}
	for {
		number, err := r.next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		value, err := r.value()
		if err != nil {
			return nil, err
		}
		switch number {
		case fieldListMeta:
			err = list.ListMeta.Unmarshal(value)
		case fieldItems:
			item := P(new(T))
			if err = item.Unmarshal(value); err == nil {
				var kept any
				kept, err = slim(item)
				list.Items = append(list.Items, kept.(runtime.Object))
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

// wire reads the fields of a protobuf message that are messages and strings, one after the other.
type wire struct {
	in *bufio.Reader
	// left is what is left of the message, and length of the value that comes next, in bytes.
	left, length int64
	buffer       []byte
}

// next returns the number of the next field, or io.EOF at the end of the message.
func (f *wire) next() (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	tag, err := f.varint()
	if err != nil {
		return 0, err
	}
	if tag&7 != 2 {
		return 0, fmt.Errorf("a field of wire type %d where messages are", tag&7)
	}
	length, err := f.varint()
	if err != nil {
		return 0, err
	}
	if length > uint64(f.left) {
		return 0, fmt.Errorf("a field of %d bytes where %d are left", length, f.left)
	}
	f.length = int64(length)
	return int(tag >> 3), nil
}

// value returns the value of the field that next has announced. It is valid until the next one.
func (f *wire) value() ([]byte, error) {
	if f.length > maxObject {
		return nil, fmt.Errorf("an object of %d bytes, more than any can have", f.length)
	}
	if int64(cap(f.buffer)) < f.length {
		f.buffer = make([]byte, f.length)
	}
	value := f.buffer[:f.length]
	_, err := io.ReadFull(f.in, value)
	f.left -= f.length
	return value, noEOF(err)
}

func (f *wire) varint() (uint64, error) {
	value, err := binary.ReadUvarint(f.in)
	for rest := value; ; rest >>= 7 {
		f.left--
		if rest < 0x80 {
			return value, noEOF(err)
		}
	}
}

// noEOF makes an error of an end that comes too early.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
