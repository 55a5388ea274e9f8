// Package scrape lets those read /metrics whom the API server knows and RBAC allows to.
//
// A request enters with a bearer token; it leaves to the guarded handler when the TokenReview knows the
// token and the SubjectAccessReview allows its user the verb on the path, as kube-apiserver's own
// delegated authentication does. Answers are remembered for a while, so that scrapes every few seconds
// cost two reviews a minute. Nothing here decides by itself: a review that cannot be had is a refusal.
//
// controller-runtime has such a filter on top of k8s.io/apiserver, which doubles the size of the binary.
package scrape
