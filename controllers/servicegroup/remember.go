package servicegroup

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// perGroup remembers something of each ServiceGroup between two reconciliations. Losing it in a restart
// costs a try that is known to fail, or a write a little early.
type perGroup[T any] struct {
	mu      sync.Mutex
	entries map[types.NamespacedName]*T
}

func newPerGroup[T any]() *perGroup[T] {
	return &perGroup[T]{entries: map[types.NamespacedName]*T{}}
}

// with runs a function on what is remembered of a ServiceGroup.
func (m *perGroup[T]) with(key types.NamespacedName, do func(*T)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	entry := m.entries[key]
	if entry == nil {
		entry = new(T)
		m.entries[key] = entry
	}
	do(entry)
}

// ifKnown runs a function on what is remembered of a ServiceGroup, if there is anything.
func (m *perGroup[T]) ifKnown(key types.NamespacedName, do func(*T)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if entry := m.entries[key]; entry != nil {
		do(entry)
	}
}

func (m *perGroup[T]) forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, key)
}

// serviceKey is what is remembered of one Service of a ServiceGroup: its own, or that of a group. No
// ServiceGroup has the name of the latter, while one may have that of the Service.
func serviceKey(key types.NamespacedName, group string) types.NamespacedName {
	if group != "" {
		key.Name += "/" + group
	}
	return key
}
