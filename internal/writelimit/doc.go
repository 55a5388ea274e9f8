// Package writelimit gives each namespace a budget of writes to the API server.
//
// What enters: a client and the writes of its user. What leaves: the same writes, or an Exhausted error
// in place of one for which its namespace has no token, with how long it takes to have some. Nobody waits in
// here: a worker that waited would be one less for other namespaces. Reads and writes of objects without a
// namespace pass.
package writelimit
