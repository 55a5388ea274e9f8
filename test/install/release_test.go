package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

const crdName = "servicegroups.net.servicegroup.dev"

// newField is a field of the spec that the previous release did not have.
const newField = "serviceMetadata"

func current(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := manifests.Chart()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// previous is the chart as a release before this one would have been: another version, and a CRD of a
// lower revision without newField.
func previous(t *testing.T) *chart.Chart {
	t.Helper()
	c := current(t)
	c.Metadata.Version, c.Metadata.AppVersion = "0.0.9", "v0.0.9"
	for _, file := range c.Files {
		if !strings.HasPrefix(file.Name, "files/crd/") {
			continue
		}
		crd := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(file.Data, &crd.Object); err != nil {
			t.Fatal(err)
		}
		annotations := crd.GetAnnotations()
		annotations["net.servicegroup.dev/schema-revision"] = "0"
		crd.SetAnnotations(annotations)
		versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		fields := []string{"schema", "openAPIV3Schema", "properties", "spec", "properties"}
		if _, found, _ := unstructured.NestedMap(versions[0].(map[string]any), append(fields, newField)...); !found {
			t.Fatalf("the CRD has no field %s", newField)
		}
		unstructured.RemoveNestedField(versions[0].(map[string]any), append(fields, newField)...)
		err := unstructured.SetNestedSlice(crd.Object, versions, "spec", "versions")
		if err != nil {
			t.Fatal(err)
		}
		if file.Data, err = yaml.Marshal(crd.Object); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// revision is the schema revision of the installed CRD.
func (c *cluster) revision(ctx context.Context) (string, error) {
	crd := &unstructured.Unstructured{}
	crd.SetAPIVersion("apiextensions.k8s.io/v1")
	crd.SetKind("CustomResourceDefinition")
	err := c.Get(ctx, client.ObjectKey{Name: crdName}, crd)
	return crd.GetAnnotations()["net.servicegroup.dev/schema-revision"], err
}

func (c *cluster) expectRevision(t *testing.T, want string) {
	t.Helper()
	if got, err := c.revision(t.Context()); err != nil || got != want {
		t.Fatalf("the CRD has schema revision %q (%v), want %q", got, err, want)
	}
}

// expectVersion checks which release's manager is asked for.
func (c *cluster) expectVersion(t *testing.T, want string) {
	t.Helper()
	manager := &appsv1.Deployment{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: manifests.Namespace, Name: "servicegroup-manager"}, manager); err != nil {
		t.Fatal(err)
	}
	if image := manager.Spec.Template.Spec.Containers[0].Image; !strings.HasSuffix(image, ":"+want) {
		t.Fatalf("the manager's image is %s, want the tag %s", image, want)
	}
}

// newGroup is a ServiceGroup of a user.
func newGroup() *v1alpha1.ServiceGroup {
	return &v1alpha1.ServiceGroup{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "kept"},
		Spec: v1alpha1.ServiceGroupSpec{
			Groups: []v1alpha1.Group{{Name: "web", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}},
			Ports:  []v1alpha1.Port{{Name: "http", Port: 80}},
		},
	}
}

// createGroup creates the user's ServiceGroup once the CRD is served.
func (c *cluster) createGroup(t *testing.T) *v1alpha1.ServiceGroup {
	t.Helper()
	group := newGroup()
	eventually(t, "the CRD is served", func() error { return c.Create(t.Context(), group) })
	t.Cleanup(func() { _ = c.Delete(context.Background(), newGroup()) })
	return group
}

func (c *cluster) expectKept(t *testing.T, group *v1alpha1.ServiceGroup) {
	t.Helper()
	found := &v1alpha1.ServiceGroup{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(group), found); err != nil {
		t.Fatalf("the ServiceGroup is not there any more: %v", err)
	}
	if found.UID != group.UID || found.Spec.Ports[0].Port != group.Spec.Ports[0].Port {
		t.Fatalf("the ServiceGroup is another one: %+v", found)
	}
}

// newRelease returns a release that is uninstalled after the test, with the CRD.
func (c *cluster) newRelease(t *testing.T) *manifests.Release {
	t.Helper()
	release, err := manifests.NewRelease(c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = release.Uninstall()
		c.deleteCRD(t)
	})
	return release
}

func (c *cluster) deleteCRD(t *testing.T) {
	crd := &unstructured.Unstructured{}
	crd.SetAPIVersion("apiextensions.k8s.io/v1")
	crd.SetKind("CustomResourceDefinition")
	crd.SetName(crdName)
	_ = c.Delete(context.Background(), crd)
	eventually(t, "the CRD is deleted", func() error {
		if _, err := c.revision(context.Background()); !apierrors.IsNotFound(err) {
			return errors.Join(errors.New("it is there"), err)
		}
		return nil
	})
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestUpgradeAndBack: N-1, N, N-1, uninstalled, installed again. The CRD only goes forward, and the
// ServiceGroup and what is written in new fields stays.
func TestUpgradeAndBack(t *testing.T) {
	c := requireCluster(t)
	release := c.newRelease(t)

	must(t, "installing N-1", release.Install(previous(t), nil))
	c.expectVersion(t, "v0.0.9")
	c.expectRevision(t, "0")
	group := c.createGroup(t)

	must(t, "upgrading to N", release.Upgrade(current(t), nil))
	c.expectVersion(t, "latest")
	c.expectRevision(t, "1")
	c.expectKept(t, group)
	eventually(t, "the new field is kept", func() error {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(group), group); err != nil {
			return err
		}
		group.Spec.ServiceMetadata = &v1alpha1.ServiceMetadata{Labels: map[string]string{"team": "web"}}
		if err := c.Update(t.Context(), group); err != nil {
			return err
		}
		if group.Spec.ServiceMetadata == nil {
			return errors.New("it is dropped")
		}
		return nil
	})

	must(t, "going back to N-1", release.Upgrade(previous(t), nil))
	c.expectVersion(t, "v0.0.9")
	c.expectRevision(t, "1")
	c.expectKept(t, group)
	must(t, "reading the ServiceGroup", c.Get(t.Context(), client.ObjectKeyFromObject(group), group))
	if group.Spec.ServiceMetadata == nil {
		t.Fatal("going back dropped a field of the ServiceGroup")
	}

	must(t, "uninstalling", release.Uninstall())
	c.expectRevision(t, "1")
	c.expectKept(t, group)
	manager := &appsv1.Deployment{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: manifests.Namespace, Name: "servicegroup-manager"}, manager); !apierrors.IsNotFound(err) {
		t.Fatalf("the manager is still there: %v", err)
	}
	must(t, "installing N again", release.Install(current(t), nil))
	c.expectKept(t, group)
}

// TestRollback: helm rollback applies what was stored, the older CRD too. ServiceGroups are kept; with
// the admission policies the downgrade is refused, and says what to do.
func TestRollback(t *testing.T) {
	for _, policies := range []bool{false, true} {
		t.Run(fmt.Sprintf("policies %v", policies), func(t *testing.T) {
			c := requireCluster(t)
			release := c.newRelease(t)
			values := manifests.Values{"policies": manifests.Values{"enabled": policies}}
			must(t, "installing N-1", release.Install(previous(t), values))
			group := c.createGroup(t)
			must(t, "upgrading to N", release.Upgrade(current(t), values))
			if !policies {
				must(t, "rolling back", release.Rollback(1))
				c.expectVersion(t, "v0.0.9")
				c.expectRevision(t, "0")
				c.expectKept(t, group)
				return
			}
			// A policy takes a moment to be in force.
			older, err := manifests.Parse(string(previous(t).Files[crdFile(t, previous(t))].Data))
			must(t, "reading the older CRD", err)
			eventually(t, "the policy is in force", func() error {
				err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(older[0].DeepCopy()), client.FieldOwner("tester"), client.ForceOwnership, client.DryRunAll)
				if !apierrors.IsForbidden(err) {
					return fmt.Errorf("an older CRD: %w", err)
				}
				return nil
			})
			if err := release.Rollback(1); err == nil || !strings.Contains(err.Error(), "newer than 0; keep it") {
				t.Fatalf("rolling back: %v, want a refusal", err)
			}
			c.expectRevision(t, "1")
			c.expectKept(t, group)
		})
	}
}

func crdFile(t *testing.T, c *chart.Chart) int {
	t.Helper()
	for i, file := range c.Files {
		if strings.HasPrefix(file.Name, "files/crd/") {
			return i
		}
	}
	t.Fatal("the chart has no CRD")
	return 0
}
