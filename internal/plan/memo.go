package plan

import (
	"hash/maphash"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Memo are fingerprints of the groups of a target whose EndpointSlices were right when they were planned
// last. What has the same fingerprint is right still, so that an event costs what the groups cost that it
// touches. Losing it costs a look at each group.
type Memo map[string]uint64

// seed is that of the fingerprints. They are compared within a process, and nothing that leaves tells them.
var seed = maphash.MakeSeed()

// fingerprint identifies all that the slices of a group are planned from, by the versions that the API
// server gives to objects. It reports false for objects that have none.
func (b *Behind) fingerprint(target *Target, member *Membership, existing []*discoveryv1.EndpointSlice) (uint64, bool) {
	if target.Service.ResourceVersion == "" || b.EntryHash == "" || member.External != nil {
		return 0, false
	}
	var h maphash.Hash
	h.SetSeed(seed)
	add := func(parts ...string) {
		for _, part := range parts {
			_, _ = h.WriteString(part) // never fails
			_ = h.WriteByte(0)
		}
	}
	add(b.EntryHash, string(target.Service.UID), target.Service.ResourceVersion)
	for _, pod := range member.Pods {
		if pod.ResourceVersion == "" {
			return 0, false
		}
		add("pod", string(pod.UID), pod.ResourceVersion)
		if node := b.Nodes[pod.Spec.NodeName]; node != nil {
			add("node", node.Labels[corev1.LabelTopologyZone])
		}
	}
	for _, slice := range existing {
		add("slice", slice.Name, string(slice.UID), slice.ResourceVersion)
	}
	return h.Sum64(), true
}
