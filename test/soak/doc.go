// Package soak leaves a converged cluster alone, with the real manager and real agents, and counts at the
// API server, by its audit log, what they write meanwhile: nothing but the agents' Leases. SOAK says for
// how long; without it the test is a short one.
package soak
