package install

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

const (
	managerUser   = "system:serviceaccount:servicegroup-system:servicegroup-manager"
	collectorUser = "system:serviceaccount:kube-system:generic-garbage-collector"
	slicesUser    = "system:serviceaccount:kube-system:endpointslice-controller"
	mirrorUser    = "system:serviceaccount:kube-system:endpointslicemirroring-controller"
	// alice is an administrator, whom RBAC allows everything.
	alice = "alice"
)

// as is a client of a user who may do anything as far as RBAC is concerned.
func (c *cluster) as(t *testing.T, user string) client.Client {
	t.Helper()
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:masters"}}
	return c.clientOf(t, config)
}

func (c *cluster) clientOf(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	out, err := client.New(config, client.Options{Scheme: c.Client.Scheme(), Mapper: c.Client.RESTMapper()})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// withPolicies installs everything with the policies and waits until they are in force.
func withPolicies(t *testing.T) *cluster {
	t.Helper()
	c := requireCluster(t)
	objects, err := manifests.Kustomize("policies")
	must(t, "building the manifests", err)
	t.Cleanup(func() { c.deleteCRD(t) })
	for _, object := range objects {
		// A namespace cannot be deleted where no controller manager runs.
		if object.GetKind() == "Namespace" {
			must(t, "applying the namespace", c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("kubectl")))
			continue
		}
		c.apply(t, object)
	}
	eventually(t, "the policies are in force", func() error {
		err := c.as(t, alice).Create(t.Context(), generatedService("probe"), client.DryRunAll)
		if !apierrors.IsForbidden(err) {
			return fmt.Errorf("a forged Service: %w", err)
		}
		return nil
	})
	return c
}

func generatedService(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: name,
			Labels: map[string]string{v1alpha1.LabelServiceGroup: name, v1alpha1.LabelServiceProxyName: v1alpha1.ServiceProxyName},
		},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

func generatedSlice(name string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: name + "-1",
			Labels: map[string]string{v1alpha1.LabelServiceGroup: name, v1alpha1.LabelGroup: "web", discoveryv1.LabelServiceName: name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
}

// expect checks that a write was allowed, or refused with a message that has refusal.
func expect(t *testing.T, what string, err error, refusal string) {
	t.Helper()
	switch {
	case refusal == "" && err != nil:
		t.Errorf("%s was refused: %v", what, err)
	case refusal != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), refusal)):
		t.Errorf("%s: %v, want it forbidden with %q", what, err, refusal)
	}
}

// TestGeneratedObjectsAreTheManagers: nobody else creates, changes or deletes them, except for what
// Kubernetes and load-balancer controllers must do.
func TestGeneratedObjectsAreTheManagers(t *testing.T) {
	c := withPolicies(t)
	ctx := t.Context()
	manager, collector, other := c.as(t, managerUser), c.as(t, collectorUser), c.as(t, alice)
	const remedy = "change the ServiceGroup instead"

	service, slice := generatedService("policy"), generatedSlice("policy")
	expect(t, "a Service forged", other.Create(ctx, service.DeepCopy()), remedy)
	expect(t, "a slice forged", other.Create(ctx, slice.DeepCopy()), remedy)
	expect(t, "the manager's Service", manager.Create(ctx, service), "")
	expect(t, "the manager's slice", manager.Create(ctx, slice), "")
	t.Cleanup(func() {
		_ = manager.Delete(context.Background(), service)
		_ = manager.Delete(context.Background(), slice)
	})

	patch := func(who client.Client, object client.Object, patch string, options ...client.PatchOption) error {
		return who.Patch(ctx, object.DeepCopyObject().(client.Object), client.RawPatch("application/merge-patch+json", []byte(patch)), options...)
	}
	for what, text := range map[string]string{
		"another selector":       `{"spec":{"selector":{"app":"mine"}}}`,
		"an external IP":         `{"spec":{"externalIPs":["192.0.2.1"]}}`,
		"no label any more":      `{"metadata":{"labels":{"net.servicegroup.dev/servicegroup":null}}}`,
		"another proxy":          `{"metadata":{"labels":{"service.kubernetes.io/service-proxy-name":null}}}`,
		"another owner":          `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"x","uid":"1"}]}}`,
		"another spec to follow": `{"metadata":{"annotations":{"net.servicegroup.dev/revision":"policy-7"}}}`,
		"a spec as v0.1 had it":  `{"metadata":{"annotations":{"net.servicegroup.dev/served":"{}"}}}`,
	} {
		expect(t, "a Service with "+what, patch(other, service, text), remedy)
		expect(t, "the manager's Service with "+what, patch(manager, service, text, client.DryRunAll), "")
	}
	for what, text := range map[string]string{
		"a finalizer":     `{"metadata":{"finalizers":["service.kubernetes.io/load-balancer-cleanup"]}}`,
		"an annotation":   `{"metadata":{"annotations":{"metallb.io/ip-allocated-from-pool":"pool"}}}`,
		"no finalizer":    `{"metadata":{"finalizers":null}}`,
		"a label of hers": `{"metadata":{"labels":{"team":"web"}}}`,
	} {
		expect(t, "a Service with "+what, patch(other, service, text), "")
	}
	status := service.DeepCopy()
	must(t, "reading the Service", other.Get(ctx, client.ObjectKeyFromObject(service), status))
	status.Status.Conditions = []metav1.Condition{{Type: "LoadBalanced", Status: "True", Reason: "Yes", LastTransitionTime: metav1.Now()}}
	expect(t, "a load balancer's status", other.Status().Update(ctx, status), "")

	expect(t, "a slice with another address", patch(other, slice, `{"endpoints":[{"addresses":["10.0.0.1"]}]}`), remedy)
	expect(t, "a slice without the label", patch(other, slice, `{"metadata":{"labels":{"net.servicegroup.dev/servicegroup":null}}}`), remedy)
	expect(t, "a slice deleted", other.Delete(ctx, slice), remedy)
	expect(t, "a Service deleted", other.Delete(ctx, service), remedy)
	expect(t, "a slice collected", collector.Delete(ctx, slice), "")
	expect(t, "a Service collected", collector.Delete(ctx, service), "")

	plain := generatedService("plain")
	plain.Labels = nil
	expect(t, "a Service of nobody's", other.Create(ctx, plain), "")
	expect(t, "a Service with our label put on", patch(other, plain, `{"metadata":{"labels":{"net.servicegroup.dev/servicegroup":"x"}}}`), remedy)
	expect(t, "a Service of nobody's deleted", other.Delete(ctx, plain), "")
}

// TestAcceptedSpecsAreTheManagers: nobody else writes the ControllerRevisions that the Services follow, and
// those of others are not touched.
func TestAcceptedSpecsAreTheManagers(t *testing.T) {
	c := withPolicies(t)
	ctx := t.Context()
	manager, collector, other := c.as(t, managerUser), c.as(t, collectorUser), c.as(t, alice)
	const remedy = "change the ServiceGroup instead"
	revision := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "policy-1", Labels: map[string]string{v1alpha1.LabelServiceGroup: "policy"}},
		Data:       runtime.RawExtension{Raw: []byte(`{}`)}, Revision: 1,
	}
	plain := revision.DeepCopy()
	plain.Name, plain.Labels = "daemon-1", map[string]string{"controller-revision-hash": "1"}
	expect(t, "a revision forged", other.Create(ctx, revision.DeepCopy()), remedy)
	expect(t, "the manager's revision", manager.Create(ctx, revision), "")
	t.Cleanup(func() { _ = manager.Delete(context.Background(), revision) })
	for _, text := range []string{
		`{"metadata":{"annotations":{"net.servicegroup.dev/spec-hash":"0"}}}`, `{"metadata":{"labels":null}}`, `{"revision":7}`,
	} {
		expect(t, "a revision with "+text, other.Patch(ctx, revision.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(text))), remedy)
	}
	expect(t, "a revision deleted", other.Delete(ctx, revision), remedy)
	expect(t, "a revision collected", collector.Delete(ctx, revision), "")
	expect(t, "the revision of a DaemonSet", other.Create(ctx, plain), "")
	expect(t, "the revision of a DaemonSet deleted", other.Delete(ctx, plain), "")
}

// TestNoWayAroundTheManager: the ways by which what is generated would get away from the policy.
func TestNoWayAroundTheManager(t *testing.T) {
	c := withPolicies(t)
	ctx := t.Context()
	manager, other := c.as(t, managerUser), c.as(t, alice)
	const remedy = "change the ServiceGroup instead"
	service, slice := generatedService("around"), generatedSlice("around")
	must(t, "creating the Service", manager.Create(ctx, service))
	must(t, "creating the slice", manager.Create(ctx, slice))
	t.Cleanup(func() {
		_ = manager.Delete(context.Background(), service)
		_ = manager.Delete(context.Background(), slice)
	})

	const unlabelled = `{"metadata":{"labels":null}}`
	merge := func(text string) client.Patch { return client.RawPatch(types.MergePatchType, []byte(text)) }
	expect(t, "labels taken off by way of the status", other.Status().Patch(ctx, service.DeepCopy(), merge(unlabelled)), remedy)
	expect(t, "owners put on by way of the status", other.Status().Patch(ctx, service.DeepCopy(),
		merge(`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"x","uid":"1"}]}}`)), remedy)
	for of, object := range map[string]client.Object{"Service": service, "slice": slice} {
		replaced := object.DeepCopyObject().(client.Object)
		replaced.SetLabels(nil)
		expect(t, "a "+of+" replaced by one without labels", other.Update(ctx, replaced), remedy)
		expect(t, "a "+of+" without labels by a JSON patch", other.Patch(ctx, object.DeepCopyObject().(client.Object),
			client.RawPatch(types.JSONPatchType, []byte(`[{"op":"remove","path":"/metadata/labels"}]`))), remedy)
		applied := &unstructured.Unstructured{}
		applied.SetGroupVersionKind(map[string]schema.GroupVersionKind{
			"Service": corev1.SchemeGroupVersion.WithKind("Service"), "slice": discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
		}[of])
		applied.SetNamespace(object.GetNamespace())
		applied.SetName(object.GetName())
		labels := maps.Clone(object.GetLabels())
		labels[v1alpha1.LabelServiceGroup] = "another"
		applied.SetLabels(labels)
		if of == "slice" {
			must(t, "writing the slice", unstructured.SetNestedField(applied.Object, "IPv4", "addressType"))
			must(t, "writing the slice", unstructured.SetNestedSlice(applied.Object, nil, "endpoints"))
		}
		expect(t, "a "+of+" of another ServiceGroup, applied with force", other.Apply(ctx,
			client.ApplyConfigurationFromUnstructured(applied), client.FieldOwner("alice"), client.ForceOwnership), remedy)
		expect(t, "every "+of+" deleted at once", other.DeleteAllOf(ctx, object.DeepCopyObject().(client.Object), client.InNamespace(metav1.NamespaceDefault),
			client.MatchingLabels{v1alpha1.LabelServiceGroup: "around"}), remedy)
	}

	// A slice that says nothing of a ServiceGroup, and that the agents would read.
	forged := generatedSlice("around")
	forged.Name, forged.Labels = "forged", map[string]string{
		discoveryv1.LabelServiceName: "around", v1alpha1.LabelServiceProxyName: v1alpha1.ServiceProxyName,
	}
	expect(t, "a slice for the agents", other.Create(ctx, forged.DeepCopy()), remedy)
	expect(t, "a slice for the agents from anybody's Endpoints", c.as(t, mirrorUser).Create(ctx, forged.DeepCopy()), remedy)
	expect(t, "a slice of a Service that has the label", c.as(t, slicesUser).Create(ctx, forged.DeepCopy(), client.DryRunAll), "")
	expect(t, "a generated slice by Kubernetes' own controller", c.as(t, slicesUser).Delete(ctx, slice.DeepCopy()), remedy)
	delete(forged.Labels, v1alpha1.LabelServiceProxyName)
	expect(t, "a slice for other proxies", other.Create(ctx, forged), "")
	t.Cleanup(func() { _ = c.Delete(context.Background(), forged) })
	expect(t, "it becomes one for the agents", other.Patch(ctx, forged.DeepCopy(),
		merge(`{"metadata":{"labels":{"service.kubernetes.io/service-proxy-name":"servicegroup"}}}`)), remedy)
}

// agent is the client of an agent, and what it is made from.
type agent struct {
	client.Client
	config *rest.Config
}

// agentOn is the client of the agent whose pod is on a node; "" for a token of no pod.
func (c *cluster) agentOn(t *testing.T, node string) agent {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: manifests.Namespace, Name: "servicegroup-agent"}}
	request := &authenticationv1.TokenRequest{}
	if node != "" {
		must(t, "creating a node", c.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}))
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: manifests.Namespace, Name: "agent-" + node},
			Spec: corev1.PodSpec{
				NodeName: node, ServiceAccountName: account.Name,
				Containers: []corev1.Container{{Name: "agent", Image: manifests.Image}},
			},
		}
		must(t, "creating a pod", c.Create(t.Context(), pod))
		t.Cleanup(func() {
			_ = c.Delete(context.Background(), pod, client.GracePeriodSeconds(0))
			_ = c.Delete(context.Background(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}})
		})
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	}
	must(t, "requesting a token", c.SubResource("token").Create(t.Context(), account, request))
	config := rest.AnonymousClientConfig(c.Config)
	config.BearerToken = request.Status.Token
	return agent{c.clientOf(t, config), config}
}

// TestAnAgentWritesItsOwnLease: no other node's, and no other Lease at all.
func TestAnAgentWritesItsOwnLease(t *testing.T) {
	c := withPolicies(t)
	ctx := t.Context()
	lease := func(name string) *coordinationv1.Lease {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: manifests.Namespace, Name: name}}
	}
	one, two, nobody := c.agentOn(t, "one"), c.agentOn(t, "two"), c.agentOn(t, "")
	own := lease(v1alpha1.LeasePrefix + "one")
	t.Cleanup(func() { _ = c.Delete(context.Background(), own) })
	// RBAC takes a moment too.
	eventually(t, "an agent may write its Lease", func() error { return one.Create(ctx, own) })
	own.Annotations = map[string]string{"a": "b"}
	expect(t, "its own Lease again", one.Update(ctx, own), "")

	expect(t, "another node's Lease", two.Update(ctx, own.DeepCopy()), "is not of the node that the token of this agent is for: two")
	expect(t, "another node's Lease created", one.Create(ctx, lease(v1alpha1.LeasePrefix+"two")), "token of this agent is for: one")
	expect(t, "the manager's Lease", one.Create(ctx, lease("servicegroup-manager")), "token of this agent is for: one")
	held := lease("servicegroup-manager")
	must(t, "creating the manager's Lease", c.Create(ctx, held))
	t.Cleanup(func() { _ = c.Delete(context.Background(), held) })
	expect(t, "the manager's Lease taken over", one.Update(ctx, held.DeepCopy()), "token of this agent is for: one")
	expect(t, "a Lease with a made-up name", one.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace: manifests.Namespace, GenerateName: v1alpha1.LeasePrefix,
	}}), "token of this agent is for: one")
	// RBAC refuses what the policy does not look at.
	expect(t, "its own Lease deleted", one.Delete(ctx, own.DeepCopy()), "cannot delete resource")
	expect(t, "its own Lease patched", one.Patch(ctx, own.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{}`))), "cannot patch resource")
	elsewhere := lease(v1alpha1.LeasePrefix + "one")
	elsewhere.Namespace = metav1.NamespaceDefault
	expect(t, "a Lease in another namespace", one.Create(ctx, elsewhere), "cannot create resource")
	config := rest.CopyConfig(one.config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:servicegroup-system:servicegroup-agent", Extra: map[string][]string{"authentication.kubernetes.io/node-name": {"two"}},
	}
	expect(t, "another node's Lease by a token that says so itself", c.clientOf(t, config).Create(ctx, lease(v1alpha1.LeasePrefix+"two")), "cannot impersonate")
	expect(t, "a Lease by a token of no pod", nobody.Create(ctx, lease(v1alpha1.LeasePrefix+"two")), "it is for none")
	expect(t, "the manager's Lease by the manager", c.as(t, managerUser).Update(ctx, held), "")
}

// TestTheCRDIsNotDowngraded: the same revision and a newer one are fine.
func TestTheCRDIsNotDowngraded(t *testing.T) {
	c := withPolicies(t)
	objects, err := manifests.Kustomize()
	must(t, "building the manifests", err)
	crd, err := manifests.Find(objects, "CustomResourceDefinition", crdName)
	must(t, "finding the CRD", err)
	for _, test := range []struct {
		revision, refusal string
	}{
		{"0", "has schema revision 1, newer than 0; keep it"},
		{"", "has schema revision 1, newer than 0; keep it"},
		{"1", ""},
		{"2", ""},
	} {
		changed := crd.DeepCopy()
		annotations := changed.GetAnnotations()
		if annotations["net.servicegroup.dev/schema-revision"] = test.revision; test.revision == "" {
			delete(annotations, "net.servicegroup.dev/schema-revision")
		}
		changed.SetAnnotations(annotations)
		current := crd.DeepCopy()
		if err := errors.Join(c.Get(t.Context(), client.ObjectKeyFromObject(crd), current)); err != nil {
			t.Fatal(err)
		}
		changed.SetResourceVersion(current.GetResourceVersion())
		expect(t, fmt.Sprintf("the CRD with revision %q", test.revision), c.Update(t.Context(), changed, client.DryRunAll), test.refusal)
	}
}
