package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ServiceGroupStatus is the entry point as served.
type ServiceGroupStatus struct {
	// observedGeneration is the generation of the spec that the status speaks of; -1 before there was any.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Accepted, Programmed (where agents report), Ready and, with hostnames of external
	// groups, ResolvedRefs; and while it applies Stalled or Reconciling, for what waits by the rules of
	// kstatus.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// clusterIP is the virtual IP; None if the entry point is headless.
	// +optional
	ClusterIP string `json:"clusterIP,omitempty"`

	// clusterIPs are the virtual IPs, the primary first.
	// +listType=atomic
	// +optional
	ClusterIPs []string `json:"clusterIPs,omitempty"`

	// ports are the ports with their NodePorts, in the order of spec.ports.
	// +listType=atomic
	// +optional
	Ports []PortStatus `json:"ports,omitempty"`

	// portSummary is ports on one line, such as 80:30001/TCP,8080:30002/TCP.
	// +optional
	PortSummary string `json:"portSummary,omitempty"`

	// externalSummary is the load balancer's addresses on one line, <pending> while it has none, or the name
	// that an ExternalName is an alias for.
	// +optional
	ExternalSummary string `json:"externalSummary,omitempty"`

	// healthCheckNodePort is the port on every node for the load balancer's health checks; 0 when
	// there is none.
	// +optional
	HealthCheckNodePort int32 `json:"healthCheckNodePort,omitempty"`

	// loadBalancer is the load-balancer status of the generated Service.
	// +optional
	LoadBalancer corev1.LoadBalancerStatus `json:"loadBalancer,omitempty"`

	// groups are the counts per group, in the order of spec.groups.
	// +listType=map
	// +listMapKey=name
	// +optional
	Groups []GroupStatus `json:"groups,omitempty"`

	// groupSummary is the number of groups with a ready endpoint, of all groups, such as 2/2.
	// +optional
	GroupSummary string `json:"groupSummary,omitempty"`
}

// PortStatus is a port as served.
type PortStatus struct {
	// name of the port.
	// +optional
	Name string `json:"name,omitempty"`
	// port number on the virtual IP.
	Port int32 `json:"port"`
	// protocol of the port.
	Protocol corev1.Protocol `json:"protocol"`
	// nodePort on every node; 0 when the type has none.
	// +optional
	NodePort int32 `json:"nodePort,omitempty"`
}

// GroupStatus counts the pods or the external addresses of a group.
type GroupStatus struct {
	// name of the group.
	Name string `json:"name"`
	// matched is the number of pods the selector matches that have an address and have not
	// finished; or of addresses of an external group, those of its hostname as found last.
	Matched int32 `json:"matched"`
	// ready is how many of the matched pods are ready and not terminating, or how many of the
	// addresses are served and pass the health check.
	Ready int32 `json:"ready"`
	// leftOut is how many of the matched are not served: because no EndpointSlice may have their
	// address (loopback, link-local, multicast), because the manager's --external-ranges do not
	// allow an external one, or because it has none of a family that the entry point has.
	// +optional
	LeftOut int32 `json:"leftOut,omitempty"`
}
