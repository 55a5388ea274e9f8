package servicegroup

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// CacheOptions are the cache options that Setup counts on. Services and EndpointSlices are cached
// only when they carry our labels; of pods and nodes the cache keeps only what makes endpoints, and
// of ControllerRevisions their metadata, so that the manager's memory depends little on what else runs
// in the cluster.
func CacheOptions() cache.Options {
	generated, err := labels.Parse(v1alpha1.LabelServiceGroup)
	if err != nil { // it is a constant
		panic(fmt.Sprintf("parsing the label of generated Services: %v", err))
	}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:  {Transform: trimPod},
			&corev1.Node{}: {Transform: trimNode},
			&corev1.Service{}: {
				Label:     generated,
				Transform: trimService,
			},
			revisionMeta(): {Label: generated},
			&discoveryv1.EndpointSlice{}: {
				Label: labels.SelectorFromSet(labels.Set{discoveryv1.LabelManagedBy: v1alpha1.ManagedBy}),
			},
		},
	}
}

// trimPod keeps what makes an endpoint of a pod.
func trimPod(in any) (any, error) {
	pod, ok := in.(*corev1.Pod)
	if !ok {
		return in, nil
	}
	out := &corev1.Pod{
		ObjectMeta: trimMeta(&pod.ObjectMeta),
		Spec: corev1.PodSpec{
			NodeName: pod.Spec.NodeName, Hostname: pod.Spec.Hostname, Subdomain: pod.Spec.Subdomain,
			Containers: namedPorts(pod.Spec.Containers), InitContainers: namedPorts(pod.Spec.InitContainers),
		},
		Status: corev1.PodStatus{Phase: pod.Status.Phase, PodIP: pod.Status.PodIP, PodIPs: pod.Status.PodIPs},
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady { // with its time, which becomes the slices' trigger time
			out.Status.Conditions = append(out.Status.Conditions, corev1.PodCondition{
				Type: c.Type, Status: c.Status, LastTransitionTime: c.LastTransitionTime,
			})
		}
	}
	return out, nil
}

func trimMeta(meta *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: meta.Name, Namespace: meta.Namespace, UID: meta.UID, ResourceVersion: meta.ResourceVersion,
		DeletionTimestamp: meta.DeletionTimestamp, Labels: meta.Labels,
	}
}

// namedPorts keeps the containers that a targetPort can name; numbers need no look-up.
func namedPorts(containers []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for i := range containers {
		var ports []corev1.ContainerPort
		for _, p := range containers[i].Ports {
			if p.Name != "" {
				ports = append(ports, corev1.ContainerPort{Name: p.Name, ContainerPort: p.ContainerPort, Protocol: p.Protocol})
			}
		}
		if len(ports) > 0 {
			out = append(out, corev1.Container{Ports: ports, RestartPolicy: containers[i].RestartPolicy})
		}
	}
	return out
}

// trimNode keeps the zone.
func trimNode(in any) (any, error) {
	node, ok := in.(*corev1.Node)
	if !ok {
		return in, nil
	}
	out := &corev1.Node{ObjectMeta: trimMeta(&node.ObjectMeta)}
	out.Labels = nil
	if zone := node.Labels[corev1.LabelTopologyZone]; zone != "" {
		out.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	return out, nil
}

// trimService keeps of managedFields what plan.DiffService reads: our own entry, and those of others who
// wrote where a nodePort comes from.
func trimService(in any) (any, error) {
	svc, ok := in.(*corev1.Service)
	if !ok {
		return in, nil
	}
	svc.ManagedFields = slices.DeleteFunc(svc.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager != v1alpha1.ManagedBy && !plan.WrotePorts(e)
	})
	return svc, nil
}
