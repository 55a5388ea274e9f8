package servicegroup

import "container/heap"

// ordered holds items by an order in which the first is at hand. Each change costs O(log n).
type ordered[T comparable] struct {
	less  func(a, b T) bool
	items []T
	at    map[T]int
}

func newOrdered[T comparable](less func(a, b T) bool) *ordered[T] {
	return &ordered[T]{less: less, at: map[T]int{}}
}

// put adds an item, or finds its new place.
func (o *ordered[T]) put(item T) {
	if at, found := o.at[item]; found {
		heap.Fix((*heapOf[T])(o), at)
		return
	}
	heap.Push((*heapOf[T])(o), item)
}

// remove removes an item if it is there, and reports whether it was.
func (o *ordered[T]) remove(item T) bool {
	at, found := o.at[item]
	if found {
		heap.Remove((*heapOf[T])(o), at)
	}
	return found
}

func (o *ordered[T]) first() (item T, found bool) {
	if len(o.items) == 0 {
		return item, false
	}
	return o.items[0], true
}

// heapOf is ordered as container/heap sees it.
type heapOf[T comparable] ordered[T]

func (h *heapOf[T]) Len() int           { return len(h.items) }
func (h *heapOf[T]) Less(i, j int) bool { return h.less(h.items[i], h.items[j]) }

func (h *heapOf[T]) Swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.at[h.items[i]], h.at[h.items[j]] = i, j
}

func (h *heapOf[T]) Push(item any) {
	h.at[item.(T)] = len(h.items)
	h.items = append(h.items, item.(T))
}

func (h *heapOf[T]) Pop() any {
	last := len(h.items) - 1
	item := h.items[last]
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	delete(h.at, item)
	return item
}
