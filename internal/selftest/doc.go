// Package selftest finds out whether an installation serves: it makes a ServiceGroup in front of the pod it
// runs in, connects to its virtual IP, and takes it away again. What enters is a client with the right to
// create, get and delete ServiceGroups in one namespace; what leaves is nil, or what did not happen and
// where to look. It writes nothing else.
package selftest
