// Package endtoend installs the project into the lab as an administrator does, builds its image and runs
// it as the pods of the installation say, with their rights, the tokens of its service accounts and the RBAC
// it ships, serves a ServiceGroup, and compares the rights used, from the audit log, with those granted. It
// also replaces the release before by this one, and goes back, while clients make requests.
package endtoend
