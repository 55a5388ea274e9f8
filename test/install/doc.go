// Package install tests what an administrator installs: the kustomize tree, the chart, the admission
// policies, the image's recipe, alerts and dashboard, against a real API server where one is concerned.
//
// It is a module of its own, because the Helm SDK and Prometheus' parsers have many dependencies that
// manager and agent must not have.
package install
