package stories

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestOrphanedServiceIsTakenBack: a ServiceGroup that is deleted with --cascade=orphan and applied again
// loses neither an address nor a request.
func TestOrphanedServiceIsTakenBack(t *testing.T) {
	s := newScene(t, "orphan")
	s.apply("nodeport.yaml")
	replicas := s.run("my-web", 2, map[string]string{"app": "my-web"})
	visitor := s.visitor()
	before := s.service("my-web")
	targets := append(s.everyNode(before.Spec.Ports[0].NodePort, corev1.IPv4Protocol), inside(visitor, before.Spec.ClusterIP, 80))
	for _, to := range targets {
		s.awaitAnswers(to, replicas)
	}
	stop := s.keepAsking(targets)

	s.kubectl("delete", "svcg", "my-web", "--cascade=orphan")
	await(t, "the Service has no owner", func(context.Context) error {
		if owners := s.service("my-web").OwnerReferences; len(owners) > 0 {
			return fmt.Errorf("it has %v", owners)
		}
		return nil
	})
	s.apply("nodeport.yaml")
	s.awaitCondition("my-web", "Accepted", "True", "Accepted")
	more := s.run("more", 1, map[string]string{"app": "my-web"})
	for _, to := range targets {
		s.awaitAnswers(to, replicas, more)
	}
	stop()
	after := s.service("my-web")
	if after.UID != before.UID || after.Spec.ClusterIP != before.Spec.ClusterIP || after.Spec.Ports[0] != before.Spec.Ports[0] {
		t.Errorf("the Service was %v, and is %v", before.Spec, after.Spec)
	}
	if len(after.OwnerReferences) != 1 {
		t.Errorf("it belongs to %v", after.OwnerReferences)
	}
}

// TestNamespaceIsDeleted: a namespace with ServiceGroups of many kinds goes like any other, and the
// operator puts nothing back into it meanwhile.
func TestNamespaceIsDeleted(t *testing.T) {
	s := newScene(t, "namespace")
	var manifests strings.Builder
	for i, spec := range []string{"type: NodePort", "clusterIP: None", "exposeGroups: true", "dataplane: Cluster", "ipFamilyPolicy: RequireDualStack"} {
		fmt.Fprintf(&manifests, "---\n{apiVersion: net.servicegroup.dev/v1alpha1, kind: ServiceGroup, metadata: {name: web-%d}, "+
			"spec: {%s, groups: [{name: a, selector: {matchLabels: {app: a}}}], ports: [{port: 80}]}}\n", i, spec)
	}
	s.applyText(manifests.String())
	s.kubectl("wait", "--for=condition=Accepted", "svcg", "--all", "--timeout=30s")
	started := time.Now()
	s.kubectl("delete", "namespace", s.namespace, "--wait=false")
	await(t, "the namespace is gone", func(ctx context.Context) error {
		_, err := s.Kubernetes.CoreV1().Namespaces().Get(ctx, s.namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is there"), err)
	})
	t.Logf("it took %s", time.Since(started).Round(time.Millisecond))
}
