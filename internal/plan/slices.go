package plan

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan/endpointslices"
)

// GroupService is the synthetic Service from which the EndpointSlices of one group are built: the
// generated Service with the ports that lead to this group, their targetPorts as this group's
// backends say, and the labels that the slices carry.
func GroupService(svc *corev1.Service, entry EntryPoint, group string) *corev1.Service {
	out := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: svc.Name, Namespace: svc.Namespace, UID: svc.UID,
			CreationTimestamp: svc.CreationTimestamp, DeletionTimestamp: svc.DeletionTimestamp,
			Labels: sliceLabels(svc, group),
		},
		Spec: corev1.ServiceSpec{
			Type: svc.Spec.Type, ClusterIP: svc.Spec.ClusterIP,
			ClusterIPs: slices.Clone(svc.Spec.ClusterIPs), IPFamilies: slices.Clone(svc.Spec.IPFamilies),
			PublishNotReadyAddresses: svc.Spec.PublishNotReadyAddresses,
			TrafficDistribution:      svc.Spec.TrafficDistribution,
		},
	}
	for i := range entry.Ports {
		port := &entry.Ports[i]
		target, ok := port.Target(group)
		if !ok {
			continue
		}
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{
			Name: port.Name, Protocol: port.Protocol, AppProtocol: port.AppProtocol,
			Port: port.Number, TargetPort: target,
		})
	}
	return out
}

// sliceLabels are our labels of the slices of a group: who serves the Service serves its slices.
func sliceLabels(svc *corev1.Service, group string) map[string]string {
	out := map[string]string{v1alpha1.LabelGroup: group}
	for _, key := range []string{v1alpha1.LabelServiceGroup, v1alpha1.LabelServiceProxyName} {
		if value, ok := svc.Labels[key]; ok {
			out[key] = value
		}
	}
	return out
}

// Slices are the changes to the EndpointSlices of a Service, and the result.
type Slices = endpointslices.Changes

// SlicesOf computes the changes to the EndpointSlices of a target, in the order of the groups, and what is to
// be remembered of them.
func (b *Behind) SlicesOf(target *Target) (Slices, Memo) {
	entry, memo := b.entryOf(target), Memo{}
	existing := SortSlices(target.Service, entry, target.Slices)
	all := Slices{Delete: existing.Stray}
	members := MembersOf(entry, b.Members)
	for i := range members {
		group, found := members[i].Group, existing.ByGroup[members[i].Group]
		fingerprint, ok := b.fingerprint(target, &members[i], found)
		if settled, known := target.Settled[group]; ok && known && settled == fingerprint {
			memo[group] = fingerprint
			all.Final = append(all.Final, found...)
			continue
		}
		changes := b.slicesOfGroup(target, entry, &members[i], found)
		if ok && changes.Empty() {
			memo[group] = fingerprint
		}
		all.Add(changes)
	}
	return all, memo
}

func (b *Behind) slicesOfGroup(target *Target, entry EntryPoint, member *Membership, existing []*discoveryv1.EndpointSlice) Slices {
	service := GroupService(target.Service, entry, member.Group)
	if member.External != nil {
		return ExternalSlices(service, existing, member.External)
	}
	return endpointslices.Plan(&endpointslices.Group{
		Service: service, Pods: member.Pods, Nodes: b.Nodes, Existing: existing, Trigger: target.Trigger,
	})
}

// MembersOf are the members of the groups behind a target.
func (b *Behind) MembersOf(target *Target) []Membership {
	return MembersOf(b.entryOf(target), b.Members)
}

func (b *Behind) entryOf(target *Target) EntryPoint {
	if target.Group != "" {
		return b.Entry.Only(target.Group)
	}
	return b.Entry
}

// Existing are the EndpointSlices found under a Service's name.
type Existing struct {
	// ByGroup are those that belong to a group, by its name.
	ByGroup map[string][]*discoveryv1.EndpointSlice
	// Stray are those to delete: of a group that is gone, of an earlier Service of the same name,
	// or taken out of their place by hand.
	Stray []*discoveryv1.EndpointSlice
}

// SortSlices tells the slices of the groups from the stray ones, both by name.
func SortSlices(svc *corev1.Service, entry EntryPoint, found []*discoveryv1.EndpointSlice) Existing {
	existing := Existing{ByGroup: map[string][]*discoveryv1.EndpointSlice{}}
	sorted := slices.SortedFunc(slices.Values(found), func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	for _, slice := range sorted {
		group := slice.Labels[v1alpha1.LabelGroup]
		if !entry.has(group) || !inPlace(slice, svc) {
			existing.Stray = append(existing.Stray, slice)
			continue
		}
		existing.ByGroup[group] = append(existing.ByGroup[group], slice)
	}
	return existing
}

// inPlace says whether a slice is where we put it. Other labels of ours are restored; these are how it is
// found, and one that has others is not trusted.
func inPlace(slice *discoveryv1.EndpointSlice, svc *corev1.Service) bool {
	_, headless := slice.Labels[corev1.IsHeadlessService]
	return headless == (svc.Spec.ClusterIP == corev1.ClusterIPNone) &&
		metav1.IsControlledBy(slice, svc) &&
		slice.Labels[discoveryv1.LabelServiceName] == svc.Name &&
		slice.Labels[discoveryv1.LabelManagedBy] == v1alpha1.ManagedBy
}

// portName identifies a port in EndpointSlices, which do not carry the Service's port number.
type portName struct {
	name     string
	protocol corev1.Protocol
}

// readyPorts are the ports with at least one ready endpoint.
func readyPorts(final []*discoveryv1.EndpointSlice) map[portName]bool {
	ready := map[portName]bool{}
	for _, slice := range final {
		if !hasReady(slice) {
			continue
		}
		for _, port := range slice.Ports {
			ready[portName{ptr.Deref(port.Name, ""), ptr.Deref(port.Protocol, corev1.ProtocolTCP)}] = true
		}
	}
	return ready
}

func hasReady(slice *discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(slice.Endpoints, func(e discoveryv1.Endpoint) bool { return ptr.Deref(e.Conditions.Ready, false) })
}

func anyReady(final []*discoveryv1.EndpointSlice) bool { return slices.ContainsFunc(final, hasReady) }
