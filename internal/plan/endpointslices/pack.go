package endpointslices

import (
	"cmp"
	"maps"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// packer puts the endpoints of one family into slices.
type packer struct {
	group  *Group
	family discoveryv1.AddressType
	labels map[string]string
	bins   []*bin
	// spare are slices with nothing left in them. They are written in any case, so filling one again
	// costs less than any other place.
	spare []*discoveryv1.EndpointSlice
}

// bin is a slice with the endpoints that it is to have.
type bin struct {
	set *portSet
	// have is the slice that exists; nil for a new one.
	have      *discoveryv1.EndpointSlice
	endpoints []*endpoint
	// changed reports whether it is to be written.
	changed bool
}

func (b *bin) free() int { return MaxEndpoints - len(b.endpoints) }

func newPacker(g *Group, family discoveryv1.AddressType) *packer {
	return &packer{group: g, family: family, labels: sliceLabels(g.Service)}
}

// pack goes in three steps, each over all sets of ports:
//  1. What exists keeps the endpoints that are still wanted. Slices that are to be written because of
//     that are filled up, the fullest first.
//  2. What is left over goes into slices that are empty by now, then into the fullest other one that
//     has room for all of it, then into new ones.
//  3. Slices that are still empty are deleted, but for one where there is no other.
func (p *packer) pack(sets []*portSet, existing []*discoveryv1.EndpointSlice) Changes {
	bySignature := map[string][]*discoveryv1.EndpointSlice{}
	for _, slice := range existing {
		key := signature(slice.Ports)
		bySignature[key] = append(bySignature[key], slice)
	}
	left := make([][]*endpoint, len(sets))
	for i, set := range sets {
		wanted := p.endpoints(set)
		if len(wanted) == 0 {
			continue // its slices are empty now
		}
		left[i] = p.keep(set, wanted, bySignature[set.signature])
		delete(bySignature, set.signature)
	}
	for _, slice := range existing {
		if _, unwanted := bySignature[signature(slice.Ports)]; unwanted {
			p.spare = append(p.spare, slice)
		}
	}
	p.spare = byName(p.spare)
	for i, set := range sets {
		p.place(set, left[i])
	}
	return p.changes()
}

// endpoints are those of a set of pods that have an address of the family.
func (p *packer) endpoints(set *portSet) []endpoint {
	wanted := make([]endpoint, 0, len(set.pods))
	for _, pod := range set.pods {
		if e := p.group.endpointOf(pod, p.family); len(e.addresses) > 0 {
			wanted = append(wanted, e)
		}
	}
	return wanted
}

// keep leaves endpoints in the slices where they are, fills up those that are written, and returns
// what is left over.
func (p *packer) keep(set *portSet, wanted []endpoint, existing []*discoveryv1.EndpointSlice) []*endpoint {
	byPod := make(map[string]*endpoint, len(wanted))
	for i := range wanted {
		byPod[wanted[i].pod.Name] = &wanted[i]
	}
	var written []*bin
	for _, slice := range existing {
		b := p.keepIn(slice, set, byPod)
		if b.changed && len(b.endpoints) == 0 {
			p.spare = append(p.spare, slice)
			continue
		}
		p.bins = append(p.bins, b)
		if b.changed {
			written = append(written, b)
		}
	}
	left := make([]*endpoint, 0)
	for i := range wanted {
		if !wanted[i].placed {
			left = append(left, &wanted[i])
		}
	}
	slices.SortStableFunc(written, func(a, b *bin) int { return cmp.Compare(len(b.endpoints), len(a.endpoints)) })
	for _, b := range written {
		left = b.fill(left)
	}
	return left
}

func (p *packer) keepIn(slice *discoveryv1.EndpointSlice, set *portSet, byPod map[string]*endpoint) *bin {
	b := &bin{set: set, have: slice, endpoints: make([]*endpoint, 0, len(slice.Endpoints))}
	b.changed = !maps.Equal(slice.Labels, p.labels)
	for i := range slice.Endpoints {
		e := byPod[podOf(&slice.Endpoints[i])]
		if e == nil || e.placed || len(b.endpoints) == MaxEndpoints {
			b.changed = true
			continue
		}
		e.placed = true
		b.endpoints = append(b.endpoints, e)
		b.changed = b.changed || !e.equals(&slice.Endpoints[i])
	}
	return b
}

// fill puts endpoints into a slice as far as they fit, and returns the others.
func (b *bin) fill(left []*endpoint) []*endpoint {
	n := min(len(left), b.free())
	if n <= 0 {
		return left
	}
	b.endpoints, b.changed = append(b.endpoints, left[:n]...), true
	return left[n:]
}

// place finds a slice for endpoints that have none.
func (p *packer) place(set *portSet, left []*endpoint) {
	for len(left) > 0 {
		left = p.roomFor(set, len(left)).fill(left)
	}
}

func (p *packer) roomFor(set *portSet, count int) *bin {
	b := &bin{set: set}
	if len(p.spare) > 0 {
		b.have, p.spare = p.spare[0], p.spare[1:]
	} else if fullest := p.fullest(set, count); fullest != nil {
		return fullest
	}
	p.bins = append(p.bins, b)
	return b
}

// fullest is the fullest slice of a set with room for so many; nil if there is none.
func (p *packer) fullest(set *portSet, count int) *bin {
	var found *bin
	for _, b := range p.bins {
		if b.set == set && b.free() >= count && (found == nil || b.free() < found.free()) {
			found = b
		}
	}
	return found
}

func (p *packer) changes() Changes {
	var out Changes
	if len(p.bins) == 0 {
		p.placeholder(&out)
	}
	for _, b := range p.bins {
		switch {
		case !b.changed:
			out.Final = append(out.Final, b.have)
		case b.have != nil:
			out.Update = append(out.Update, p.build(b))
		default:
			out.Create = append(out.Create, p.build(b))
		}
	}
	out.Update = byName(out.Update)
	if p.group.Service.DeletionTimestamp != nil {
		out.Create = nil // the garbage collector is at work
	}
	out.Delete = p.spare
	out.Final = append(append(out.Final, out.Update...), out.Create...)
	return out
}

// placeholder leaves one empty slice where there is no other, as Kubernetes does: it says that there is
// nothing, where none would say that nobody has looked.
func (p *packer) placeholder(out *Changes) {
	at := slices.IndexFunc(p.spare, func(slice *discoveryv1.EndpointSlice) bool {
		return len(slice.Endpoints)+len(slice.Ports) == 0 && maps.Equal(slice.Labels, p.labels)
	})
	if at >= 0 {
		out.Final = append(out.Final, p.spare[at])
		p.spare = slices.Delete(slices.Clone(p.spare), at, at+1)
		return
	}
	b := &bin{set: &portSet{}, changed: true}
	if len(p.spare) > 0 {
		b.have, p.spare = p.spare[0], p.spare[1:]
	}
	p.bins = append(p.bins, b)
}
