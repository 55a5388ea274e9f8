package install

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// TestPodSecurity: the manager meets the level restricted, and the agent asks for no more than the
// host's network and CAP_NET_ADMIN.
func TestPodSecurity(t *testing.T) {
	objects, err := manifests.Kustomize()
	must(t, "building the manifests", err)
	template := func(kind, name string, into runtime.Object) {
		t.Helper()
		object, err := manifests.Find(objects, kind, name)
		must(t, "finding "+name, err)
		must(t, "reading "+name, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, into))
	}
	manager, agent := &appsv1.Deployment{}, &appsv1.DaemonSet{}
	template("Deployment", "servicegroup-manager", manager)
	template("DaemonSet", "servicegroup-agent", agent)

	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	must(t, "preparing the checks", err)
	failing := func(pod corev1.PodTemplateSpec, level api.Level) (out []string) {
		for _, result := range evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				out = append(out, result.ForbiddenReason)
			}
		}
		return out
	}
	if reasons := failing(manager.Spec.Template, api.LevelRestricted); len(reasons) > 0 {
		t.Errorf("the manager does not meet the level restricted: %v", reasons)
	}
	want := map[string]bool{"host namespaces": true, "non-default capabilities": true, "hostPort": true}
	for _, reason := range failing(agent.Spec.Template, api.LevelBaseline) {
		if !want[reason] {
			t.Errorf("the agent is kept from the level baseline by %q", reason)
		}
	}
	security := agent.Spec.Template.Spec.Containers[0].SecurityContext
	if added := security.Capabilities.Add; len(added) != 1 || added[0] != "NET_ADMIN" || len(security.Capabilities.Drop) != 1 {
		t.Errorf("the agent has the capabilities %+v", security.Capabilities)
	}
	for _, spec := range []corev1.PodSpec{manager.Spec.Template.Spec, agent.Spec.Template.Spec} {
		for _, c := range spec.Containers {
			if spec.AutomountServiceAccountToken == nil || spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
				t.Errorf("%s does not ask for its token, or learns of every Service of its namespace", c.Name)
			}
			if !*c.SecurityContext.ReadOnlyRootFilesystem || *c.SecurityContext.AllowPrivilegeEscalation || len(spec.Volumes) > 0 {
				t.Errorf("%s writes to its root, may gain privileges, or mounts something", c.Name)
			}
		}
	}
}
