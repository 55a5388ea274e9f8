// Package plan decides what a ServiceGroup should be, and writes nothing.
//
// What enters: a ServiceGroup, and what was observed of its Service, EndpointSlices, pods and
// nodes. What leaves: the Service to apply, the synthetic Services from which the EndpointSlices of
// each group are built, the differences to what exists, and the status with its conditions.
//
// Everything is a pure function of its arguments: no client, no clock, no context, no logger, no
// metrics. The same input gives the same bytes, so whatever has no order of its own is sorted.
// Arguments are never changed.
package plan
