package node

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
)

// encoded is a list as an API server answers it.
func encoded(t *testing.T) ([]byte, *corev1.ServiceList) {
	t.Helper()
	list := &corev1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: "7", Continue: "there"}}
	for _, name := range []string{"a", "b", "c"} {
		list.Items = append(list.Items, corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", Annotations: map[string]string{"long": "story"}},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		})
	}
	var out bytes.Buffer
	list.APIVersion, list.Kind = "v1", "ServiceList"
	if err := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Encode(list, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), list
}

func TestAListIsReadSlim(t *testing.T) {
	raw, list := encoded(t)
	got, err := readList[corev1.Service](iotest.OneByteReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list.ListMeta, got.ListMeta); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	var want []runtime.Object
	for i := range list.Items {
		item := &list.Items[i]
		if item.Annotations = nil; len(item.Spec.Ports) == 0 {
			t.Fatal("a Service without ports shows nothing")
		}
		want = append(want, item)
	}
	if diff := cmp.Diff(want, got.Items); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

// Half a list would be taken for all there is, and the rest removed from the node.
func TestACutOffListIsAnError(t *testing.T) {
	raw, _ := encoded(t)
	end := bytes.LastIndex(raw, []byte("10.96.0.1")) // in the last Service
	for n := range end {
		if list, err := readList[corev1.Service](bytes.NewReader(raw[:n])); err == nil {
			t.Errorf("%d of %d bytes are read as a list of %d", n, len(raw), len(list.Items))
		}
	}
	if _, err := readList[corev1.Service](io.MultiReader(bytes.NewReader(raw[:end]), iotest.ErrReader(io.ErrClosedPipe))); err == nil {
		t.Error("a broken connection is no error")
	}
}

func TestAnythingElseIsAnError(t *testing.T) {
	for _, in := range []string{"", "k8s", "{}", "k8s\x00", "k8s\x00\x12\x05\x08\x01", "k8s\x00\x12\x03\x12\xff\x01", "k8s\x00\x12\x02\x12\x7f"} {
		if list, err := readList[corev1.Service](bytes.NewReader([]byte(in))); err == nil {
			t.Errorf("%q is read as a list of %d", in, len(list.Items))
		}
	}
}

func FuzzReadList(f *testing.F) {
	f.Add([]byte("k8s\x00\x12\x04\x0a\x02\x12\x00"))
	f.Fuzz(func(_ *testing.T, raw []byte) { // must not panic, and not take memory that is not there
		_, _ = readList[corev1.Service](bytes.NewReader(raw))
	})
}
