// Package plan decides what a ServiceGroup should be, and writes nothing.
//
// What enters: a Snapshot, which is a ServiceGroup with what was observed of its accepted spec, Service,
// EndpointSlices, pods and nodes, and what the API server answered before. What leaves: a Plan, which is
// the Services, EndpointSlices and ControllerRevisions to write, and the status with its conditions
// (Compute).
//
// Everything is a pure function of its arguments: no client, no clock, no context, no logger, no
// metrics. The same input gives the same bytes, so whatever has no order of its own is sorted.
// Arguments are never changed. Two things in a Snapshot are functions, so that they are observed only
// where a plan needs them. A group whose slices were right, and that has the same pods, nodes, slices and
// spec as then, by their versions, is not planned again (Memo).
package plan
