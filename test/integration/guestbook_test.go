package integration

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// guestbook is story S9: one VIP, two ports, two groups of pods that share no label.
const guestbook = `
type: NodePort
groups:
- name: frontend
  selector: {matchLabels: {app: guestbook, tier: frontend}}
- name: myweb
  selector: {matchLabels: {app: myweb}}
ports:
- name: frontend
  port: 80
  nodePort: 30001
  backends: [{group: frontend}]
- name: myweb
  port: 8080
  nodePort: 30002
  backends: [{group: myweb}]
`

var (
	frontendLabels = map[string]string{"app": "guestbook", "tier": "frontend"}
	mywebLabels    = map[string]string{"app": "myweb"}
)

var _ = Describe("The guestbook", func() {
	It("becomes one Service without a selector, slices per group, and a status", func() {
		a := runPod(podSpec{name: "frontend-a", labels: frontendLabels})
		b := runPod(podSpec{name: "frontend-b", labels: frontendLabels})
		web := runPod(podSpec{name: "myweb", labels: mywebLabels})
		runPod(podSpec{name: "other", labels: map[string]string{"app": "guestbook", "tier": "backend"}})
		sg := create("guestbook", guestbook)

		Eventually(endpointsOf("guestbook")).Should(ConsistOf(
			at("frontend/frontend", a, 80, "rs"), at("frontend/frontend", b, 80, "rs"), at("myweb/myweb", web, 8080, "rs")))
		Eventually(ready(sg)).Should(Equal("True EndpointsReady: every port has a ready endpoint"))
		Expect(accepted(sg)(Default)).To(Equal("True Accepted: Service guestbook serves this spec"))

		svc := service(Default, "guestbook")
		Expect(svc.Spec.Selector).To(BeEmpty())
		Expect(svc.Spec.Type).To(Equal(corev1.ServiceTypeNodePort))
		Expect(svc.Spec.Ports).To(Equal([]corev1.ServicePort{
			{Name: "frontend", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(80), NodePort: 30001},
			{Name: "myweb", Protocol: corev1.ProtocolTCP, Port: 8080, TargetPort: intstr.FromInt32(8080), NodePort: 30002},
		}))
		Expect(svc.Labels).To(HaveKeyWithValue(v1alpha1.LabelServiceProxyName, v1alpha1.ServiceProxyName))
		Expect(svc.OwnerReferences).To(Equal([]metav1.OwnerReference{{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: "ServiceGroup", Name: "guestbook", UID: sg.UID,
			Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
		}}))

		status := statusOf(sg)(Default)
		Expect(status.ClusterIP).To(Equal(svc.Spec.ClusterIP))
		Expect(status.ClusterIPs).To(Equal(svc.Spec.ClusterIPs))
		Expect(status.PortSummary).To(Equal("80:30001/TCP,8080:30002/TCP"))
		Expect(status.GroupSummary).To(Equal("2/2"))
		Expect(status.Groups).To(Equal([]v1alpha1.GroupStatus{
			{Name: "frontend", Matched: 2, Ready: 2}, {Name: "myweb", Matched: 1, Ready: 1}}))

		for _, slice := range slicesOf(Default, "guestbook") {
			Expect(metav1.IsControlledBy(&slice, svc)).To(BeTrue())
			Expect(slice.AddressType).To(Equal(discoveryv1.AddressTypeIPv4))
			Expect(slice.Labels).To(Equal(map[string]string{
				discoveryv1.LabelServiceName:   "guestbook",
				discoveryv1.LabelManagedBy:     v1alpha1.ManagedBy,
				v1alpha1.LabelServiceProxyName: v1alpha1.ServiceProxyName,
				v1alpha1.LabelServiceGroup:     "guestbook",
				v1alpha1.LabelGroup:            slice.Labels[v1alpha1.LabelGroup],
			}))
			Expect(slice.Annotations).To(HaveKey(corev1.EndpointsLastChangeTriggerTime))
			for _, e := range slice.Endpoints {
				Expect(e.NodeName).To(HaveValue(Equal(nodeName)))
				Expect(e.Zone).To(HaveValue(Equal("zone-a")))
			}
		}
	})
})
