// Package agentapi is what an agent tells of itself, as JSON on the standard output of its commands,
// to whoever asks by kubectl exec: the kubectl plugin.
//
// The types hold values only. Fields are added and never change their meaning: the plugin may be older
// or newer than the agent it asks.
package agentapi
