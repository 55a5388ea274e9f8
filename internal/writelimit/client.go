package writelimit

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Wrap returns a client whose writes take tokens.
func Wrap(c client.Client, limits *Limits) client.Client { return &limited{c, limits} }

type limited struct {
	client.Client
	limits *Limits
}

func (c *limited) Create(ctx context.Context, object client.Object, options ...client.CreateOption) error {
	if err := c.limits.Take(object.GetNamespace()); err != nil {
		return err
	}
	return c.Client.Create(ctx, object, options...)
}

func (c *limited) Update(ctx context.Context, object client.Object, options ...client.UpdateOption) error {
	if err := c.limits.Take(object.GetNamespace()); err != nil {
		return err
	}
	return c.Client.Update(ctx, object, options...)
}

func (c *limited) Patch(ctx context.Context, object client.Object, patch client.Patch, options ...client.PatchOption) error {
	if err := c.limits.Take(object.GetNamespace()); err != nil {
		return err
	}
	return c.Client.Patch(ctx, object, patch, options...)
}

func (c *limited) Delete(ctx context.Context, object client.Object, options ...client.DeleteOption) error {
	if err := c.limits.Take(object.GetNamespace()); err != nil {
		return err
	}
	return c.Client.Delete(ctx, object, options...)
}

func (c *limited) DeleteAllOf(ctx context.Context, object client.Object, options ...client.DeleteAllOfOption) error {
	namespace := (&client.DeleteAllOfOptions{}).ApplyOptions(options).Namespace
	if err := c.limits.Take(namespace); err != nil {
		return err
	}
	return c.Client.DeleteAllOf(ctx, object, options...)
}

func (c *limited) Apply(ctx context.Context, object runtime.ApplyConfiguration, options ...client.ApplyOption) error {
	if err := c.limits.takeApply(object); err != nil {
		return err
	}
	return c.Client.Apply(ctx, object, options...)
}

// takeApply takes a token for an apply configuration, which says where its object is if it has a namespace.
func (l *Limits) takeApply(object runtime.ApplyConfiguration) error {
	if placed, ok := object.(interface{ GetNamespace() *string }); ok && placed.GetNamespace() != nil {
		return l.Take(*placed.GetNamespace())
	}
	return nil
}

func (c *limited) Status() client.SubResourceWriter { return c.SubResource("status") }

func (c *limited) SubResource(name string) client.SubResourceClient {
	return &limitedPart{c.Client.SubResource(name), c.limits}
}

type limitedPart struct {
	client.SubResourceClient
	limits *Limits
}

func (c *limitedPart) Create(ctx context.Context, object, part client.Object, options ...client.SubResourceCreateOption) error {
	if err := c.limits.Take(object.GetNamespace()); err != nil {
		return err
	}
	return c.SubResourceClient.Create(ctx, object, part, options...)
}

func (c *limitedPart) Update(ctx context.Context, object client.Object, options ...client.SubResourceUpdateOption) error {
	if err := c.limits.Take(object.GetNamespace()); err != nil {
		return err
	}
	return c.SubResourceClient.Update(ctx, object, options...)
}

func (c *limitedPart) Patch(ctx context.Context, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
	if err := c.limits.Take(object.GetNamespace()); err != nil {
		return err
	}
	return c.SubResourceClient.Patch(ctx, object, patch, options...)
}

func (c *limitedPart) Apply(ctx context.Context, object runtime.ApplyConfiguration, options ...client.SubResourceApplyOption) error {
	if err := c.limits.takeApply(object); err != nil {
		return err
	}
	return c.SubResourceClient.Apply(ctx, object, options...)
}
