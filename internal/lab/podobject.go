package lab

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	serverContainer = "server"
	serverImage     = "servicegroup.dev/lab/server:1"
)

func podObject(spec PodSpec, node string) *corev1.Pod {
	container := corev1.Container{Name: serverContainer, Image: serverImage}
	for _, port := range spec.Ports {
		container.Ports = append(container.Ports, corev1.ContainerPort{
			Name: port.Name, ContainerPort: port.Number, Protocol: port.Protocol,
		})
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: spec.Namespace, Name: spec.Name,
			Labels: spec.Labels, Annotations: spec.Annotations, OwnerReferences: spec.OwnerReferences,
		},
		Spec: corev1.PodSpec{
			NodeName:   node,
			Hostname:   spec.Hostname,
			Subdomain:  spec.Subdomain,
			Containers: []corev1.Container{container},
		},
	}
}

// podStatus is what a kubelet would report of the running pod.
func (l *Lab) podStatus(pod *Pod, spec PodSpec) corev1.PodStatus {
	now, started := metav1.Now(), true
	status := corev1.PodStatus{
		Phase:     corev1.PodRunning,
		StartTime: &now,
		HostIP:    pod.Node.IPv4.String(),
		HostIPs:   []corev1.HostIP{{IP: pod.Node.IPv4.String()}},
		PodIP:     pod.IPv4.String(),
		PodIPs:    []corev1.PodIP{{IP: pod.IPv4.String()}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: serverContainer, Image: serverImage, ImageID: serverImage,
			ContainerID: "lab://" + pod.Host.Name,
			Started:     &started,
			State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}},
	}
	if l.options.DualStack {
		status.HostIPs = append(status.HostIPs, corev1.HostIP{IP: pod.Node.IPv6.String()})
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: pod.IPv6.String()})
	}
	for _, condition := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized} {
		status.Conditions = append(status.Conditions, corev1.PodCondition{
			Type: condition, Status: corev1.ConditionTrue, LastTransitionTime: now,
		})
	}
	setReady(&status, !spec.NotReady)
	return status
}

// setReady sets everything of the status that says whether the pod is ready.
func setReady(status *corev1.PodStatus, ready bool) {
	value := corev1.ConditionFalse
	if ready {
		value = corev1.ConditionTrue
	}
	for i := range status.ContainerStatuses {
		status.ContainerStatuses[i].Ready = ready
	}
	for _, condition := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		setCondition(status, condition, value)
	}
}

func setCondition(status *corev1.PodStatus, kind corev1.PodConditionType, value corev1.ConditionStatus) {
	now := metav1.Now()
	for i := range status.Conditions {
		condition := &status.Conditions[i]
		if condition.Type != kind {
			continue
		}
		if condition.Status != value {
			condition.Status, condition.LastTransitionTime = value, now
		}
		return
	}
	status.Conditions = append(status.Conditions, corev1.PodCondition{
		Type: kind, Status: value, LastTransitionTime: now,
	})
}
