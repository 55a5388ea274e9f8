package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Group is a set of pods, or of addresses outside the cluster.
//
// +kubebuilder:validation:XValidation:rule="has(self.selector) != has(self.external)",message="a group is a set of pods or of addresses outside the cluster; give exactly one of selector and external"
type Group struct {
	// name identifies the group in ports[].backends and in status.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=50
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +required
	Name string `json:"name"`

	// selector says which pods belong to the group: those that have every label of matchLabels
	// and satisfy every one of matchExpressions.
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",message="an empty selector would select every pod of the namespace; give at least one of matchLabels or matchExpressions"
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// external leads to addresses outside the cluster in place of pods. Only those are served that the
	// administrator allows with the manager's flag --external-ranges.
	// +optional
	External *External `json:"external,omitempty"`
}

// Port is a port of the entry point.
type Port struct {
	// name identifies the port; it may be left out when there is only one. It is the port name of
	// the generated Service and its EndpointSlices.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Name string `json:"name,omitempty"`

	// protocol of the port.
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP
	// +kubebuilder:default=TCP
	// +optional
	Protocol corev1.Protocol `json:"protocol,omitempty"`

	// appProtocol is the application protocol, handed on to whoever reads the generated Service or its
	// EndpointSlices, such as an Ingress controller; for example kubernetes.io/h2c.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	AppProtocol *string `json:"appProtocol,omitempty"`

	// port is the port number of the virtual IP.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +required
	Port int32 `json:"port"`

	// targetPort is the port of the pods, by number or by the name of a container port; backends
	// may say otherwise for a group. External groups need a number. Default: the value of port.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$`
	// +optional
	TargetPort *intstr.IntOrString `json:"targetPort,omitempty"`

	// nodePort is the port on every node, for type NodePort and LoadBalancer. It must lie in the
	// cluster's NodePort range (by default 30000-32767) and be free. Without it the API server allocates
	// one, or the operator from its flag --node-port-range, and it stays.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	NodePort int32 `json:"nodePort,omitempty"`

	// backends are the groups this port leads to. Default: every group.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=group
	// +optional
	Backends []Backend `json:"backends,omitempty"`
}

// Backend is a group as the target of a port.
type Backend struct {
	// group is the name of one of spec.groups.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=50
	// +required
	Group string `json:"group"`

	// targetPort is the port of this group's pods, by number or by the name of a container port, or
	// the port of its external addresses, by number. Default: targetPort of the port, and without that the port's number.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$`
	// +optional
	TargetPort *intstr.IntOrString `json:"targetPort,omitempty"`
}

// SessionAffinityConfig holds the settings of session affinity.
type SessionAffinityConfig struct {
	// clientIP holds the settings of affinity by client address.
	// +optional
	ClientIP *ClientIPConfig `json:"clientIP,omitempty"`
}

// ClientIPConfig holds the settings of session affinity by client address.
type ClientIPConfig struct {
	// timeoutSeconds is how long after its last new connection a client keeps its pod, in seconds.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	// +kubebuilder:default=10800
	// +optional
	TimeoutSeconds *int32 `json:"timeoutSeconds,omitempty"`
}
