package ruleset

import "github.com/servicegroup-dev/servicegroup/internal/proxy"

// diffConnections writes the difference between the endpoints of a frontend whose connections are
// counted. What an endpoint has counted stays with it whatever slot it moves to.
func (u *updater) diffConnections(key proxy.Key, old, want []proxy.Endpoint) {
	if !u.counted {
		return
	}
	const gone, stays = false, true
	before := make(map[proxy.Endpoint]bool, len(old))
	for _, ep := range old {
		before[ep] = gone
	}
	for _, ep := range want {
		if _, had := before[ep]; !had {
			u.change.Add = append(u.change.Add, Element{Map: Connections, Key: key, Endpoint: ep})
		}
		before[ep] = stays
	}
	for _, ep := range old {
		if before[ep] == gone {
			u.change.Delete = append(u.change.Delete, Element{Map: Connections, Key: key, Endpoint: ep})
			before[ep] = stays // an endpoint may be listed twice: for inside and outside
		}
	}
}
