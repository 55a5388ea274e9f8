package v1alpha1

// A rule's look at a field costs the API server memory in proportion to the number of fields beside it
// (apiextensions-apiserver, schema/cel/model: Properties copies them all), some 6 kB in spec, and one
// at a field that is there twice as much. So rules begin with what is seldom there, and a rule about
// the items of a list stands at the list.

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ServiceGroup is one entry point (one virtual IP, one set of NodePorts, one load-balancer address,
// one DNS name) fanned out to several groups of pods and several ports.
//
// The operator turns it into a Service of the same name, without a selector, and one set of
// EndpointSlices per group; whatever reads Services (DNS, Ingress, Gateways, kubectl) works on
// these unchanged. The node agent programs the virtual IP and the NodePorts on every node.
//
// +kubebuilder:object:root=true
// +kubebuilder:validation:XValidation:rule="!has(self.spec.exposeGroups) || !self.spec.exposeGroups || !has(self.spec.groups) || self.spec.groups.all(g, size(self.metadata.name) + size(g.name) < 63)",message="exposeGroups: the name of a group's Service, <name>-<group>, has more than 63 characters; shorten metadata.name or the name of the group"
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations="net.servicegroup.dev/schema-revision=1"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:shortName=svcg,categories=all
// +kubebuilder:selectablefield:JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Cluster-IP",type=string,JSONPath=`.status.clusterIP`
// +kubebuilder:printcolumn:name="External-IP",type=string,JSONPath=`.status.externalSummary`
// +kubebuilder:printcolumn:name="Ports",type=string,JSONPath=`.status.portSummary`
// +kubebuilder:printcolumn:name="Groups",type=string,JSONPath=`.status.groupSummary`,description="Groups with a ready endpoint, of all groups."
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`,priority=1,description="Accepted, or why not."
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`,priority=1
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",message="metadata.name must be a DNS label (lower case letters, digits and '-', starting with a letter, at most 63 characters): the generated Service has the same name"
type ServiceGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the entry point as wanted.
	// +required
	Spec ServiceGroupSpec `json:"spec"`

	// status is the entry point as served, written by the operator.
	// +kubebuilder:default={observedGeneration:-1}
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
// +kubebuilder:validation:XValidation:rule="has(self.groups) || self.type == 'ExternalName'",message="groups is required: give at least one group"
// +kubebuilder:validation:XValidation:rule="has(self.ports) || self.type == 'ExternalName' || ((has(self.clusterIP) && self.clusterIP == 'None') || (has(self.clusterIPs) && self.clusterIPs[0] == 'None'))",message="ports is required, except with clusterIP None and with type ExternalName"
// +kubebuilder:validation:XValidation:rule="!has(self.ports) || self.ports.all(p, !has(p.nodePort)) || self.type in ['NodePort', 'LoadBalancer']",message="a port has a nodePort, which this type does not serve; set type to NodePort or LoadBalancer, or remove nodePort"
// +kubebuilder:validation:XValidation:rule="!has(self.ports) || self.ports.all(p, !has(p.backends) || (has(self.groups) && p.backends.all(b, self.groups.exists(g, g.name == b.group))))",message="a backend names a group that spec.groups does not define; add the group or correct backends[].group"
// +kubebuilder:validation:XValidation:rule="!has(self.ports) || self.ports.exists(p, !has(p.backends)) || !has(self.groups) || self.groups.all(g, self.ports.exists(p, p.backends.exists(b, b.group == g.name)))",message="a group is used by no port; add it to the backends of a port or remove it from spec.groups"
// +kubebuilder:validation:XValidation:rule="!has(self.clusterIPs) || !has(self.clusterIP) || self.clusterIPs[0] == self.clusterIP",message="clusterIPs[0] must equal clusterIP; set one of the two"
// +kubebuilder:validation:XValidation:rule="!((has(self.clusterIP) && self.clusterIP == 'None') || (has(self.clusterIPs) && self.clusterIPs[0] == 'None')) || self.type == 'ClusterIP'",message="clusterIP None means that there is no virtual IP, which NodePorts and load balancers need; set type to ClusterIP or remove clusterIP"
// +kubebuilder:validation:XValidation:rule="!has(self.externalTrafficPolicy) || self.type in ['NodePort', 'LoadBalancer']",message="externalTrafficPolicy needs an entry from outside; set type to NodePort or LoadBalancer, or remove externalTrafficPolicy"
// +kubebuilder:validation:XValidation:rule="!has(self.sessionAffinityConfig) || self.sessionAffinity == 'ClientIP'",message="sessionAffinityConfig needs sessionAffinity: ClientIP"
// +kubebuilder:validation:XValidation:rule="!(has(self.loadBalancerClass) || has(self.loadBalancerSourceRanges) || has(self.allocateLoadBalancerNodePorts)) || self.type == 'LoadBalancer'",message="loadBalancerClass, loadBalancerSourceRanges and allocateLoadBalancerNodePorts need type: LoadBalancer; set the type or remove them"
// +kubebuilder:validation:XValidation:rule="!has(self.healthCheckNodePort) || (self.type == 'LoadBalancer' && has(self.externalTrafficPolicy) && self.externalTrafficPolicy == 'Local')",message="healthCheckNodePort needs type: LoadBalancer and externalTrafficPolicy: Local; set both or remove it"
// +kubebuilder:validation:XValidation:rule="has(self.externalName) == (self.type == 'ExternalName')",message="externalName and type: ExternalName need each other; set both or none"
// +kubebuilder:validation:XValidation:rule="!has(self.externalName) || self.type != 'ExternalName' || self.sessionAffinity != 'ClientIP'",message="sessionAffinity needs connections that pass the cluster, and type ExternalName is only a name; remove sessionAffinity"
// +kubebuilder:validation:XValidation:rule="!has(self.externalName) || self.type != 'ExternalName' || !(has(self.clusterIP) || has(self.clusterIPs) || has(self.ipFamilies) || has(self.ipFamilyPolicy) || has(self.internalTrafficPolicy) || has(self.trafficDistribution) || has(self.publishNotReadyAddresses) || has(self.exposeGroups))",message="type ExternalName has no addresses and no pods; remove clusterIP, clusterIPs, ipFamilies, ipFamilyPolicy, internalTrafficPolicy, trafficDistribution, publishNotReadyAddresses and exposeGroups"
type ServiceGroupSpec struct {
	// paused stops the operator on this ServiceGroup: its Service and EndpointSlices stay as they are,
	// whatever happens to its pods, until it is false again. The condition Paused says so.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// type is how the entry point is reached: ClusterIP from inside the cluster; NodePort in
	// addition on a port of every node; LoadBalancer in addition on an address that a
	// load-balancer controller assigns to the generated Service. ExternalName is an alias in DNS for
	// externalName, without any address.
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer;ExternalName
	// +kubebuilder:default=ClusterIP
	// +optional
	Type corev1.ServiceType `json:"type,omitempty"`

	// groups are the sets of pods behind the entry point, each with a selector of its own, and of
	// addresses outside the cluster. Pods are looked up in the ServiceGroup's namespace. They are
	// required, except with type ExternalName, where they may stay for the day the type changes back.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=200
	// +listType=map
	// +listMapKey=name
	// +optional
	Groups []Group `json:"groups,omitempty"`

	// ports are the ports of the entry point, each leading to one or more groups. They are required,
	// except with clusterIP None and with type ExternalName.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +listType=map
	// +listMapKey=port
	// +listMapKey=protocol
	// +kubebuilder:validation:XValidation:rule="size(self) == 1 || self.all(p, has(p.name) && size(p.name) > 0)",message="every port needs a name when there is more than one"
	// +kubebuilder:validation:XValidation:rule="size(self) == 1 || [self.filter(p, has(p.name)).map(p, p.name)].all(names, names.all(n, names.exists_one(m, m == n)))",message="two ports have the same name; give each its own"
	// +kubebuilder:validation:XValidation:rule="size(self) == 1 || [self.filter(p, has(p.nodePort))].all(given, given.all(p, given.exists_one(q, q.nodePort == p.nodePort && q.protocol == p.protocol)))",message="two ports have the same nodePort and protocol; give each its own"
	// +optional
	Ports []Port `json:"ports,omitempty"`

	// externalName is the DNS name that the entry point is an alias for, with type ExternalName.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\.?$`
	// +kubebuilder:validation:XValidation:rule="!isIP(self)",message="must be a DNS name; for addresses there is no type ExternalName"
	// +optional
	ExternalName string `json:"externalName,omitempty"`

	// clusterIP is the virtual IP asked for. Without it the API server allocates one. It must lie
	// in the cluster's Service range and be free; it cannot be changed later. None makes the entry
	// point headless: its DNS name leads to the pods' own addresses.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self == 'None' || isIP(self)",message="must be an IPv4 or IPv6 address, such as 10.96.0.20, or None"
	// +optional
	ClusterIP string `json:"clusterIP,omitempty"`

	// clusterIPs are the virtual IPs asked for in a dual-stack cluster, at most one of each
	// family, the primary first.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self.all(a, isIP(a)) || (size(self) == 1 && self[0] == 'None')",message="must be IPv4 or IPv6 addresses, such as 10.96.0.20, or None alone"
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

	// dataplane says who serves the virtual IP, the NodePorts and the load balancer's addresses:
	// Agent, the node agent of this project, or Cluster, the service proxy that the cluster has
	// anyway, such as kube-proxy. Established connections survive a change, new ones may fail for a
	// moment.
	// +kubebuilder:validation:Enum=Agent;Cluster
	// +kubebuilder:default=Agent
	// +optional
	Dataplane Dataplane `json:"dataplane,omitempty"`

	// exposeGroups adds a headless Service for every group, named <name>-<group>, whose DNS name
	// leads to the pods of that group alone.
	// +optional
	ExposeGroups bool `json:"exposeGroups,omitempty"`

	// trafficDistribution says which of the pods a node prefers: PreferSameZone (PreferClose is its
	// older name) those of its own zone, PreferSameNode those on the node itself, as long as there
	// are ready ones. Default: no preference.
	// +kubebuilder:validation:Enum=PreferClose;PreferSameZone;PreferSameNode
	// +optional
	TrafficDistribution *string `json:"trafficDistribution,omitempty"`

	// publishNotReadyAddresses makes every pod that has an address an endpoint that is ready,
	// whatever its readiness probe says: for pods that must find each other before they are ready.
	// +optional
	PublishNotReadyAddresses bool `json:"publishNotReadyAddresses,omitempty"`

	// loadBalancerClass names the load-balancer controller that is to serve the generated Service,
	// such as service.k8s.io/nlb. It needs type LoadBalancer and cannot change while the type stays.
	// Default: the cluster's own.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +optional
	LoadBalancerClass *string `json:"loadBalancerClass,omitempty"`

	// loadBalancerSourceRanges are the client addresses that may use the load balancer's addresses,
	// as CIDRs. The node agent drops all others there, whether the load balancer does so or not. It
	// needs type LoadBalancer. Default: everybody.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="self.all(r, isCIDR(r))",message="must be address ranges, such as 192.0.2.0/24 or 2001:db8::/32"
	// +listType=atomic
	// +optional
	LoadBalancerSourceRanges []string `json:"loadBalancerSourceRanges,omitempty"`

	// allocateLoadBalancerNodePorts false gives the ports of type LoadBalancer no NodePorts, for load
	// balancers that do not need them; ports that name a nodePort keep it.
	// +optional
	AllocateLoadBalancerNodePorts *bool `json:"allocateLoadBalancerNodePorts,omitempty"`

	// healthCheckNodePort is the port on every node that tells a load balancer over HTTP whether the
	// node has a ready pod. It needs type LoadBalancer with externalTrafficPolicy Local, and cannot
	// change while those stay. Default: the API server allocates one.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	HealthCheckNodePort int32 `json:"healthCheckNodePort,omitempty"`

	// serviceMetadata are labels and annotations for the generated Service, for whatever reads
	// Services: load-balancer controllers, external-dns, dashboards.
	// +optional
	ServiceMetadata *ServiceMetadata `json:"serviceMetadata,omitempty"`
}

// Dataplane says who serves an entry point.
type Dataplane string

const (
	// DataplaneAgent is the node agent.
	DataplaneAgent Dataplane = "Agent"
	// DataplaneCluster is the cluster's own service proxy.
	DataplaneCluster Dataplane = "Cluster"
)

// ServiceMetadata are labels and annotations of the generated Service.
type ServiceMetadata struct {
	// labels of the generated Service, in addition to the operator's own. Those by which Kubernetes
	// and the operator tell whose a Service is cannot be set.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// annotations of the generated Service, in addition to the operator's own.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}
