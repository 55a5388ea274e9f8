// Command demo shows the main job of ServiceGroup on a lab cluster: one virtual IP and two NodePorts
// in front of two groups of pods that share no label, with real packets.
//
// What enters: the environment variable KEEP=1, which keeps the lab up afterwards. What leaves: a
// report on standard output, and exit status 0 only if every connection was answered by a pod of
// the right group and the pods of a group shared them evenly.
//
// What it must not do: decide anything the product should decide. It applies the sample a newcomer
// would apply, with the kubectl a newcomer would use, and looks at what answers.
package main
