package ruleset

import (
	"fmt"
	"slices"
)

// MarshalText writes the name of the map.
func (m Map) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (m *Map) UnmarshalText(text []byte) error {
	at := slices.Index(mapNames[:], string(text))
	if at < 0 {
		return fmt.Errorf("there is no map %q in this version's tables", text)
	}
	*m = Map(at)
	return nil
}

// MarshalText writes the name of the chain.
func (c Chain) MarshalText() ([]byte, error) { return []byte(c.Name()), nil }

// UnmarshalText reads what MarshalText writes; a chain that is not one of ours becomes the zero Chain.
func (c *Chain) UnmarshalText(text []byte) error {
	*c = ChainNamed(string(text))
	return nil
}

// ChainNamed returns the chain of a name, the zero Chain if elements lead to no chain of that name.
func ChainNamed(name string) Chain {
	if c, ok := chainsByName[name]; ok {
		return c
	}
	var number uint32
	if n, err := fmt.Sscanf(name, "learn-%ds", &number); err == nil && n == 1 {
		return Chain{Kind: Learn, N: number}
	}
	if n, err := fmt.Sscanf(name, "share-%d", &number); err == nil && n == 1 {
		return Chain{Kind: Share, N: number}
	}
	return Chain{}
}

// chainsByName are the chains that elements lead to, but for those that learn.
var chainsByName = func() map[string]Chain {
	chains := map[string]Chain{"": {}}
	for _, kind := range []ChainKind{CheckSources, Affinity, Local, Rejecting, Dropping} {
		c := Chain{Kind: kind}
		chains[c.Name()] = c
	}
	for i := range MaxSlotsLog2 + 1 {
		for _, kind := range []ChainKind{Pick, InsidePick} {
			c := Chain{Kind: kind, N: 1 << i}
			chains[c.Name()] = c
		}
	}
	return chains
}()
