// Package endpointslices decides which EndpointSlices the pods of one group need.
//
// What enters: the synthetic Service of the group, its pods, the nodes they are on, and the slices
// that exist. What leaves: the slices to create, update and delete, and what there is afterwards.
// The endpoints are those that k8s.io/endpointslice, the library of kube-controller-manager, would
// write; that is the oracle of the tests. Where they are put is decided here: an endpoint stays in
// its slice, as few slices as possible are written, and of those the fullest are filled first.
//
// Like all of plan it is a pure function of its arguments, which are never changed: no client, no
// clock, no context, no logger, no metrics, and no order of a map in what leaves.
package endpointslices
