package endtoend

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// refused is an entry point whose newest spec asks for a nodePort that the shop holds.
const refused = `
{apiVersion: net.servicegroup.dev/v1alpha1, kind: ServiceGroup, metadata: {name: refused}, spec: {
  type: NodePort, ipFamilyPolicy: RequireDualStack,
  groups: [{name: names, selector: {matchLabels: {app: names}}}], ports: [{name: http, port: 81%s}]}}`

// openRefused makes an entry point, and then refuses it a spec. It returns its Service.
func (r *rollout) openRefused(t *testing.T, shop *corev1.Service) *corev1.Service {
	t.Helper()
	r.kubectl(fmt.Sprintf(refused, ""), "apply", "-f", "-")
	r.kubectl("", "wait", "--for=condition=Programmed", "svcg/refused", "--timeout=60s")
	r.kubectl(fmt.Sprintf(refused, fmt.Sprintf(", nodePort: %d", shop.Spec.Ports[0].NodePort)), "apply", "-f", "-")
	r.kubectl("", "wait", "--for=condition=Accepted=false", "svcg/refused", "--timeout=60s")
	return r.service(t, "refused")
}

// expectKept checks that the Service whose newest spec is refused is the same, with all of its endpoints, and that
// this release, which knows the accepted spec, undoes what others change of it.
func (r *rollout) expectKept(t *testing.T, release string, was *corev1.Service) {
	t.Helper()
	if release == "now" {
		await(t, "the accepted spec is stored", func(ctx context.Context) error {
			_, err := r.Kubernetes.AppsV1().ControllerRevisions(metav1.NamespaceDefault).Get(ctx, "refused-1", metav1.GetOptions{})
			return err
		})
		const edit = `{"spec":{"sessionAffinity":"ClientIP","ports":[{"name":"http","port":81,"targetPort":9999}]}}`
		if _, err := r.Kubernetes.CoreV1().Services(metav1.NamespaceDefault).Patch(t.Context(), "refused", types.StrategicMergePatchType,
			[]byte(edit), metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the refused entry point is as it was", func(ctx context.Context) error {
		service, err := r.Kubernetes.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "refused", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if service.UID != was.UID || !reflect.DeepEqual(service.Spec, was.Spec) {
			return fmt.Errorf("the Service was %+v, and is %+v", was.Spec, service.Spec)
		}
		found, err := r.Kubernetes.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{
			LabelSelector: discoveryv1.LabelServiceName + "=refused",
		})
		if err != nil {
			return err
		}
		endpoints := 0
		for _, slice := range found.Items {
			endpoints += len(slice.Endpoints)
		}
		if endpoints != 2*namesPods {
			return fmt.Errorf("%d endpoints in two families of %d pods", endpoints, namesPods)
		}
		return nil
	})
}
