// Package fairqueue is the work queue of a controller whose namespaces belong to different tenants.
//
// What enters: the keys of objects, each with a delay and a priority. What leaves: the same keys, one
// at a time per object, as controller-runtime's priority queue hands them out: the higher priority
// first, each key once however often it was added, and never to two workers at once. In addition, of one
// priority the namespaces take turns, and the last free worker is kept for a namespace that has none. A
// namespace with a thousand keys, or with keys that take long, delays another by what is running and no
// more.
//
// Deduplication, delays and metrics are those of client-go's work queue; this package decides the order.
package fairqueue
