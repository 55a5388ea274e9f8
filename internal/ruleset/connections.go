package ruleset

import "github.com/servicegroup-dev/servicegroup/internal/proxy"

// diffConnections writes the difference between the endpoints of a frontend whose connections are
// counted. What an endpoint has counted stays with it whatever slot it moves to.
func (u *updater) diffConnections(key proxy.Key, old, want []proxy.Endpoint) {
	if !u.counted {
		return
	}
	// An endpoint may be in a list twice: for inside and outside.
	had, wanted := setOf(old), setOf(want)
	for _, ep := range want {
		if !had[ep] {
			had[ep] = true
			u.change.Add = append(u.change.Add, Element{Map: Connections, Key: key, Endpoint: ep})
		}
	}
	for _, ep := range old {
		if !wanted[ep] {
			wanted[ep] = true
			u.change.Delete = append(u.change.Delete, Element{Map: Connections, Key: key, Endpoint: ep})
		}
	}
}

func setOf(endpoints []proxy.Endpoint) map[proxy.Endpoint]bool {
	set := make(map[proxy.Endpoint]bool, len(endpoints))
	for _, ep := range endpoints {
		set[ep] = true
	}
	return set
}
