// Package servicegroup is the operator: it keeps the Service, the EndpointSlices and the status of
// every ServiceGroup as its spec and the pods ask.
//
// What enters: ServiceGroups, and the Services, EndpointSlices, pods and nodes of the cluster,
// through caches that keep only what is needed (CacheOptions). What leaves: one Service of the
// ServiceGroup's name, one headless Service per group where that is asked for, their EndpointSlices
// per group, the ControllerRevisions of accepted specs, the status, and events when a condition changes.
//
// A reconciliation is a turn of three stages, or a few (controller.go):
//
//   - observe (observe*.go, revisions.go): one snapshot of everything that decides what is to be;
//   - plan (internal/plan, pure): snapshot in; writes, status and waits out;
//   - apply (apply*.go, status.go): the writes, in the order in which traffic depends on them.
//
// Where an answer of the API server decides what comes next (a refused Service, an adoption), apply
// records it (answers.go, tries.go, adoption.go) and another turn begins: there is no branch in the
// middle of one.
//
// Service and EndpointSlices follow the spec that was accepted last, whatever the newest one says. It is
// kept in a ControllerRevision, which the roles edit and view cannot write, so edits to the Service are
// undone and a deleted one comes back with its addresses while a newer spec is refused, also after a
// restart.
//
// It must not write anything but those objects, adopt a Service that the ServiceGroup does not name by
// its UID, allocate addresses, or use finalizers: deleting a ServiceGroup is the garbage collector's work, along the
// owner references ServiceGroup -> Service -> EndpointSlices.
package servicegroup
