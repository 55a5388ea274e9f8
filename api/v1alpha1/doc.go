// Package v1alpha1 is the API of ServiceGroup, group net.servicegroup.dev.
//
// It holds types, validation markers, condition types and reasons, and no behaviour. Field names
// are those of core/v1 Service wherever Service has the field, and mean the same.
//
// +kubebuilder:object:generate=true
// +groupName=net.servicegroup.dev
package v1alpha1
