package plan_test

import (
	"encoding/json"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// FuzzDecodeSpec: of a ControllerRevision that anybody wrote, nothing panics, and what is taken is what
// would be stored.
func FuzzDecodeSpec(f *testing.F) {
	sg := webGroup(func(*v1alpha1.ServiceGroupSpec) {})
	good := plan.NewRevision(sg, &plan.Accepted{Spec: &sg.Spec, Revision: plan.Revision{Name: "web-1", Number: 1, Hash: plan.HashSpec(&sg.Spec)}})
	for _, seed := range []string{string(good.Data.Raw), "", "{}", "null", "[]", `{"groups":null}`, `{"paused":true}`, `{"more":1}`, `{}{}`, `{"ports":[{"targetPort":{}}]}`} {
		f.Add([]byte(seed), good.Annotations[v1alpha1.AnnotationSpecHash])
	}
	f.Fuzz(func(t *testing.T, raw []byte, hash string) {
		revision := &appsv1.ControllerRevision{}
		revision.Data.Raw = raw
		var own v1alpha1.ServiceGroupSpec
		if json.Unmarshal(raw, &own) == nil {
			hash = plan.HashSpec(&own) // as one would who can write it
		}
		revision.Annotations = map[string]string{v1alpha1.AnnotationSpecHash: hash}
		spec, err := plan.DecodeSpec(revision)
		if err != nil {
			return
		}
		if plan.HashSpec(spec) != hash {
			t.Errorf("a spec of another hash is taken: %q", raw)
		}
		exercise(spec)
	})
}

// exercise does with a spec what is done with one that is served.
func exercise(spec *v1alpha1.ServiceGroupSpec) {
	if len(plan.Validate(spec)) > 0 {
		return
	}
	sg := &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u"}, Spec: *spec}
	plan.Service(plan.Desired{Group: sg, Revision: "web-1"})
	_, _ = plan.Resolve(spec)
}

// FuzzAllocated: of the annotation with the addresses, only what a Service can have is taken.
func FuzzAllocated(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"clusterIPs":["10.0.0.7","fd00::7"],"nodePorts":[{"port":80,"protocol":"TCP","nodePort":30080}],"healthCheckNodePort":31000}`,
		`{"clusterIPs":["None"]}`, `{"clusterIPs":["10.0.0.7","10.0.0.8","10.0.0.9"]}`, `{"nodePorts":[{"port":0}]}`, `{"healthCheckNodePort":-1}`, `{"more":1}`, "{}{}",
	} {
		f.Add("web-1", seed)
	}
	f.Add("web-01", "{}")
	f.Add("web-9223372036854775808", "{}")
	sg := webGroup(func(s *v1alpha1.ServiceGroupSpec) { s.Type = "NodePort" })
	owner := plan.NewRevision(sg, &plan.Accepted{Spec: &sg.Spec}).OwnerReferences
	f.Fuzz(func(t *testing.T, name, text string) {
		meta := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name: name, OwnerReferences: owner, Annotations: map[string]string{v1alpha1.AnnotationAllocated: text},
		}}
		revision, ours := plan.RevisionOf(meta, sg)
		if !ours {
			return
		}
		if revision.Name != plan.RevisionName("web", revision.Number) {
			t.Errorf("%q is taken for revision %d", name, revision.Number)
		}
		if had := revision.Allocated; len(had.ClusterIPs) > 2 || had.HealthCheckNodePort < 0 || had.HealthCheckNodePort > 65535 {
			t.Errorf("taken: %+v", had)
		}
		plan.RestoredService(plan.Desired{Group: sg, Had: revision.Allocated}, nil)
		_ = revision.Allocated.String()
	})
}

// FuzzAcceptedBefore: of the annotation of v0.1, nothing panics, and what is taken can be served.
func FuzzAcceptedBefore(f *testing.F) {
	for _, seed := range []string{
		servedWeb, "", "{}", "null", `{"groups":null,"ports":null}`, servedWeb + servedWeb, `{"groups":[{"name":"g","selector":{}}],"ports":[]}`,
		`{"groups":[{"name":"g","external":{"hostname":"example.org","healthCheck":{"http":{"path":"/"},"periodSeconds":-1}}}],"ports":[{"port":80}]}`,
		`{"groups":[],"ports":[{"port":80,"backends":[{"group":"none"}]}],"exposeGroups":true}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		sg := webGroup(func(*v1alpha1.ServiceGroupSpec) {})
		accepted := plan.AcceptedBefore(completed(before(t, sg, text)), sg)
		if accepted == nil {
			return
		}
		if len(accepted.Spec.Groups) > 200 || len(accepted.Spec.Ports) > 100 || len(plan.Validate(accepted.Spec)) > 0 {
			t.Errorf("taken: %q", text)
		}
		stored := plan.NewRevision(sg, accepted)
		if _, err := plan.DecodeSpec(stored); err != nil {
			t.Errorf("what is taken over cannot be read back: %v (%q)", err, text)
		}
		exercise(accepted.Spec)
	})
}
