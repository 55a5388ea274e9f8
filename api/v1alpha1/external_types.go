package v1alpha1

// External is a set of addresses outside the cluster.
//
// +kubebuilder:validation:XValidation:rule="has(self.addresses) != has(self.hostname)",message="give exactly one of addresses and hostname"
type External struct {
	// addresses are IP addresses, of both families if need be: each is served in its own.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self.all(a, isIP(a))",message="must be IPv4 or IPv6 addresses, such as 192.0.2.10 or 2001:db8::10; for names there is hostname"
	// +listType=set
	// +optional
	Addresses []string `json:"addresses,omitempty"`

	// hostname is a full DNS name whose addresses are served, at most 100. The manager looks it up
	// again and again; while that fails the addresses found last stay, and the condition ResolvedRefs
	// says why. Another hostname never gets the addresses of the one before.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\.?$`
	// +kubebuilder:validation:XValidation:rule="!isIP(self)",message="must be a DNS name; for addresses there is addresses"
	// +optional
	Hostname string `json:"hostname,omitempty"`

	// healthCheck says how the manager finds out which addresses are ready. Without it all are.
	// +optional
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`
}

// HealthCheck is a check that every address of an external group has to pass again and again. The
// manager does it, from where it runs. Its fields mean the same as those of a pod's readiness probe.
//
// +kubebuilder:validation:XValidation:rule="has(self.tcp) != has(self.http)",message="give exactly one of tcp and http"
// +kubebuilder:validation:XValidation:rule="(has(self.timeoutSeconds) ? self.timeoutSeconds : 1) <= (has(self.periodSeconds) ? self.periodSeconds : 10)",message="a check must end before the next begins; set timeoutSeconds (default 1) to at most periodSeconds (default 10)"
type HealthCheck struct {
	// tcp is passed when a connection can be made.
	// +optional
	TCP *TCPHealthCheck `json:"tcp,omitempty"`

	// http is passed when a GET request is answered with a status from 200 to 399. Redirects are
	// not followed.
	// +optional
	HTTP *HTTPHealthCheck `json:"http,omitempty"`

	// port is what to connect to. Default: the first TCP port of spec.ports that leads to the group, with
	// its targetPort.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`

	// periodSeconds is the time from the beginning of a check to that of the next, in seconds, and up to
	// a tenth more.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	// +kubebuilder:default=10
	// +optional
	PeriodSeconds int32 `json:"periodSeconds,omitempty"`

	// timeoutSeconds is after how long a check has failed, in seconds; at most periodSeconds.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=60
	// +kubebuilder:default=1
	// +optional
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`

	// successThreshold is how many checks in a row an address has to pass to become ready.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=1
	// +optional
	SuccessThreshold int32 `json:"successThreshold,omitempty"`

	// failureThreshold is how many checks in a row an address has to fail to cease to be ready.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=3
	// +optional
	FailureThreshold int32 `json:"failureThreshold,omitempty"`
}

// TCPHealthCheck has no settings of its own.
type TCPHealthCheck struct{}

// HTTPHealthCheck is the request of a health check over HTTP.
type HTTPHealthCheck struct {
	// path is the path of the request, with a query if need be.
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/[!-~]*$`
	// +kubebuilder:default=/
	// +optional
	Path string `json:"path,omitempty"`

	// host is the Host header of the request. Default: hostname, and without that the address.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]+)?$`
	// +optional
	Host string `json:"host,omitempty"`
}
