// Package convert says what ServiceGroup is equivalent to a Service.
//
// What enters: a core Service, as the API server returns it or as a manifest has it. What leaves: a
// ServiceGroup of the same name with one group, and a warning for everything that a ServiceGroup
// cannot say or that will not go on by itself. Applied beside the Service it came from, the
// ServiceGroup adopts it.
//
// It is pure: no client, no clock, no files, and the same Service gives the same bytes.
package convert
