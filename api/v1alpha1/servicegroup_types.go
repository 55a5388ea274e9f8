package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ServiceGroup is one entry point (one virtual IP, one set of NodePorts, one load-balancer address,
// one DNS name) fanned out to several groups of pods and several ports.
//
// The operator turns it into a Service of the same name, without a selector, and one set of
// EndpointSlices per group; whatever reads Services (DNS, Ingress, Gateways, kubectl) works on
// these unchanged. The node agent programs the virtual IP and the NodePorts on every node.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=svcg,categories=all
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Cluster-IP",type=string,JSONPath=`.status.clusterIP`
// +kubebuilder:printcolumn:name="Ports",type=string,JSONPath=`.status.portSummary`
// +kubebuilder:printcolumn:name="Groups",type=string,JSONPath=`.status.groupSummary`,description="Groups with a ready pod, of all groups."
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,priority=1
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be a DNS label (lower case letters, digits and '-', starting with a letter, at most 63 characters): the generated Service has the same name"
type ServiceGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the entry point as wanted.
	// +required
	Spec ServiceGroupSpec `json:"spec"`

	// status is the entry point as served, written by the operator.
	// +optional
	Status ServiceGroupStatus `json:"status,omitempty"`
}

// ServiceGroupList is a list of ServiceGroups.
//
// +kubebuilder:object:root=true
type ServiceGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ServiceGroup `json:"items"`
}

// ServiceGroupSpec describes the entry point, the groups of pods behind it, and which port leads
// to which groups.
//
// +kubebuilder:validation:XValidation:rule="size(self.ports) == 1 || self.ports.all(p, has(p.name) && size(p.name) > 0)",message="every port needs a name when there is more than one"
// +kubebuilder:validation:XValidation:rule="self.ports.all(p, !has(p.name) || self.ports.filter(q, has(q.name) && q.name == p.name).size() == 1)",message="two ports have the same name; give each its own"
// +kubebuilder:validation:XValidation:rule="self.ports.all(p, !has(p.nodePort) || self.ports.filter(q, has(q.nodePort) && q.nodePort == p.nodePort && q.protocol == p.protocol).size() == 1)",message="two ports have the same nodePort and protocol; give each its own"
// +kubebuilder:validation:XValidation:rule="self.type != 'ClusterIP' || self.ports.all(p, !has(p.nodePort))",message="a port has a nodePort, which type ClusterIP does not serve; set type to NodePort or LoadBalancer, or remove nodePort"
// +kubebuilder:validation:XValidation:rule="self.ports.all(p, !has(p.backends) || p.backends.all(b, self.groups.exists(g, g.name == b.group)))",message="a backend names a group that spec.groups does not define; add the group or correct backends[].group"
// +kubebuilder:validation:XValidation:rule="self.groups.all(g, self.ports.exists(p, !has(p.backends) || p.backends.exists(b, b.group == g.name)))",message="a group is used by no port; add it to the backends of a port or remove it from spec.groups"
// +kubebuilder:validation:XValidation:rule="!has(self.clusterIPs) || !has(self.clusterIP) || self.clusterIPs[0] == self.clusterIP",message="clusterIPs[0] must equal clusterIP; set one of the two"
// +kubebuilder:validation:XValidation:rule="!has(self.externalTrafficPolicy) || self.type != 'ClusterIP'",message="externalTrafficPolicy needs an entry from outside; set type to NodePort or LoadBalancer, or remove externalTrafficPolicy"
// +kubebuilder:validation:XValidation:rule="!has(self.sessionAffinityConfig) || self.sessionAffinity == 'ClientIP'",message="sessionAffinityConfig needs sessionAffinity: ClientIP"
type ServiceGroupSpec struct {
	// type is how the entry point is reached: ClusterIP from inside the cluster; NodePort in
	// addition on a port of every node; LoadBalancer in addition on an address that a
	// load-balancer controller assigns to the generated Service.
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	// +kubebuilder:default=ClusterIP
	// +optional
	Type corev1.ServiceType `json:"type,omitempty"`

	// groups are the sets of pods behind the entry point, each with a selector of its own. Pods
	// are looked up in the ServiceGroup's namespace.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=200
	// +listType=map
	// +listMapKey=name
	// +required
	Groups []Group `json:"groups"`

	// ports are the ports of the entry point, each leading to one or more groups.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +listType=map
	// +listMapKey=port
	// +listMapKey=protocol
	// +required
	Ports []Port `json:"ports"`

	// clusterIP is the virtual IP asked for. Without it the API server allocates one. It must lie
	// in the cluster's Service range and be free; it cannot be changed later.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IPv4 or IPv6 address, such as 10.96.0.20"
	// +optional
	ClusterIP string `json:"clusterIP,omitempty"`

	// clusterIPs are the virtual IPs asked for in a dual-stack cluster, at most one of each
	// family, the primary first.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self.all(a, isIP(a))",message="must be IPv4 or IPv6 addresses, such as 10.96.0.20"
	// +listType=atomic
	// +optional
	ClusterIPs []string `json:"clusterIPs,omitempty"`

	// ipFamilies are the address families of the entry point, the primary first. Without it the
	// API server chooses by ipFamilyPolicy and the cluster's configuration.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:Enum=IPv4;IPv6
	// +listType=atomic
	// +optional
	IPFamilies []corev1.IPFamily `json:"ipFamilies,omitempty"`

	// ipFamilyPolicy says whether the entry point has one address family or two.
	// +kubebuilder:validation:Enum=SingleStack;PreferDualStack;RequireDualStack
	// +optional
	IPFamilyPolicy *corev1.IPFamilyPolicy `json:"ipFamilyPolicy,omitempty"`

	// sessionAffinity ClientIP sends every connection of one client address to the same pod.
	// +kubebuilder:validation:Enum=None;ClientIP
	// +kubebuilder:default=None
	// +optional
	SessionAffinity corev1.ServiceAffinity `json:"sessionAffinity,omitempty"`

	// sessionAffinityConfig sets how long after its last connection a client keeps its pod.
	// +optional
	SessionAffinityConfig *SessionAffinityConfig `json:"sessionAffinityConfig,omitempty"`

	// externalTrafficPolicy Local serves traffic from outside (NodePorts and load-balancer
	// addresses) with pods of the same node only, and keeps the client's address; Cluster uses
	// every pod and hides the client's address.
	// +kubebuilder:validation:Enum=Cluster;Local
	// +optional
	ExternalTrafficPolicy corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy,omitempty"`

	// internalTrafficPolicy Local serves traffic to the virtual IP with pods of the same node
	// only; Cluster uses every pod.
	// +kubebuilder:validation:Enum=Cluster;Local
	// +optional
	InternalTrafficPolicy *corev1.ServiceInternalTrafficPolicy `json:"internalTrafficPolicy,omitempty"`
}

// Group is a set of pods.
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
	// +required
	Selector metav1.LabelSelector `json:"selector"`
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

	// appProtocol is the application protocol, handed on to whoever reads the generated Service,
	// such as an Ingress controller; for example kubernetes.io/h2c.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	AppProtocol *string `json:"appProtocol,omitempty"`

	// port is the port number of the virtual IP.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +required
	Port int32 `json:"port"`

	// targetPort is the port of the pods, by number or by the name of a container port; backends
	// may say otherwise for a group. Default: the value of port.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$`
	// +optional
	TargetPort *intstr.IntOrString `json:"targetPort,omitempty"`

	// nodePort is the port on every node, for type NodePort and LoadBalancer. Without it the API
	// server allocates one. It must lie in the cluster's NodePort range (by default 30000-32767)
	// and be free.
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

	// targetPort is the port of this group's pods, by number or by the name of a container port.
	// Default: targetPort of the port, and without that the port's number.
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

// ServiceGroupStatus is the entry point as served.
type ServiceGroupStatus struct {
	// conditions are Accepted and Ready.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// clusterIP is the virtual IP.
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

	// loadBalancer is the load-balancer status of the generated Service.
	// +optional
	LoadBalancer corev1.LoadBalancerStatus `json:"loadBalancer,omitempty"`

	// groups are the counts per group, in the order of spec.groups.
	// +listType=map
	// +listMapKey=name
	// +optional
	Groups []GroupStatus `json:"groups,omitempty"`

	// groupSummary is the number of groups with a ready pod, of all groups, such as 2/2.
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

// GroupStatus counts the pods of a group.
type GroupStatus struct {
	// name of the group.
	Name string `json:"name"`
	// matched is the number of pods the selector matches that have an address and have not
	// finished.
	Matched int32 `json:"matched"`
	// ready is how many of the matched pods are ready and not terminating.
	Ready int32 `json:"ready"`
}
