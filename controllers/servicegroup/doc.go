// Package servicegroup is the operator: it keeps the Service, the EndpointSlices and the status of
// every ServiceGroup as its spec and the pods ask.
//
// What enters: ServiceGroups, and the Services, EndpointSlices, pods and nodes of the cluster,
// through caches that keep only what is needed (CacheOptions). What leaves: one Service of the
// ServiceGroup's name, one headless Service per group where that is asked for, their EndpointSlices
// per group, the status, and events when a condition changes.
// A reconciliation goes one way: observe, plan (internal/plan, pure), apply the Service, write the
// slices, write the status once if its meaning changed.
//
// EndpointSlices follow the annotation v1alpha1.AnnotationServed of the Service as it is, not the
// spec: Service and annotation are one write, so when the API server refuses a spec, the slices of
// the one before go on being maintained, also after a restart.
//
// It must not write anything but those objects, adopt a Service that the ServiceGroup does not name by
// its UID, allocate addresses, or use finalizers: deleting a ServiceGroup is the garbage collector's work, along the
// owner references ServiceGroup -> Service -> EndpointSlices.
package servicegroup
