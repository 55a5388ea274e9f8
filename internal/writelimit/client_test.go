package writelimit

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// unreachable is a client that must not be asked.
type unreachable struct{ client.Client }

func (unreachable) SubResource(string) client.SubResourceClient { return nil }

// TestEveryWriteTakesAToken: whatever way leads to the API server, a namespace without tokens does not
// take it.
func TestEveryWriteTakesAToken(t *testing.T) {
	f := newFixture(10, 20)
	_, _ = f.spend()
	c := Wrap(unreachable{}, f.Limits)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "busy", Name: "web"}}
	patch, applied := client.RawPatch(types.MergePatchType, []byte("{}")), corev1ac.Service("web", "busy")
	ctx, part := context.Background(), c.SubResource("part")
	writes := map[string]func() error{
		"create":        func() error { return c.Create(ctx, service) },
		"update":        func() error { return c.Update(ctx, service) },
		"patch":         func() error { return c.Patch(ctx, service, patch) },
		"apply":         func() error { return c.Apply(ctx, applied) },
		"delete":        func() error { return c.Delete(ctx, service) },
		"delete all of": func() error { return c.DeleteAllOf(ctx, service, client.InNamespace("busy")) },
		"status":        func() error { return c.Status().Update(ctx, service) },
		"status patch":  func() error { return c.Status().Patch(ctx, service, patch) },
		"status apply":  func() error { return c.Status().Apply(ctx, applied) },
		"part create":   func() error { return part.Create(ctx, service, service) },
		"part update":   func() error { return part.Update(ctx, service) },
	}
	for _, name := range slices.Sorted(maps.Keys(writes)) {
		var exhausted *Exhausted
		if err := writes[name](); !errors.As(err, &exhausted) || exhausted.Namespace != "busy" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
